// A relay on ws: what one of two in a room sends, the other gets.
//
// `node ws.js <port>`; the path of a connection is its room. Written from the examples of the
// README: texts are handed on as the buffers that they come in, compression is off as it is by
// default, and bufferutil, which it recommends for speed, is installed. The library sets TCP_NODELAY.

import { WebSocket, WebSocketServer } from 'ws';

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]) });
const waiting = new Map();

server.on('connection', (socket, request) => {
  const room = request.url;
  const other = waiting.get(room);
  if (other === undefined) {
    waiting.set(room, socket);
  } else {
    waiting.delete(room);
    socket.other = other;
    other.other = socket;
  }

  socket.on('error', console.error);

  socket.on('message', (data, isBinary) => {
    if (socket.other?.readyState === WebSocket.OPEN) {
      socket.other.send(data, { binary: isBinary });
    }
  });

  socket.on('close', () => {
    if (waiting.get(room) === socket) {
      waiting.delete(room);
    }
    socket.other?.close();
  });
});
