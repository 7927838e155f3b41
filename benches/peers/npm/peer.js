// PeerServer, as a custom server of its README.
//
// `node peer.js <port>`. All settings at their defaults but the limit of connections, which is 5,000.

import { PeerServer } from 'peer';

PeerServer({ host: '127.0.0.1', port: Number(process.argv[2]), concurrent_limit: 100_000 });
