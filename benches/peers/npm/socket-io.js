// A room of two on Socket.IO: a `signal` event goes to the other one in the room.
//
// `node socket-io.js <port>`. A client names its room as it connects. All settings at their
// defaults; of the advice on performance in its documents, bufferutil is installed and the first
// HTTP request is let go of. The library underneath, ws, sets TCP_NODELAY.

import { Server } from 'socket.io';
import { createServer } from 'node:http';

const http = createServer();
const io = new Server(http);

io.engine.on('connection', (connection) => {
  connection.request = null;
});

io.on('connection', (socket) => {
  const { room } = socket.handshake.auth;
  socket.join(room);
  socket.on('signal', (signal) => socket.to(room).emit('signal', signal));
  socket.on('disconnect', () => socket.to(room).emit('partner-left'));
});

http.listen(Number(process.argv[2]), '127.0.0.1');
