// Peer for fanout.py: node with the ws package; what comes in on /pub goes out on /sub, one send a client.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
const subscribers = new Set();
server.on("connection", (socket, request) => {
  if (request.url === "/sub") {
    subscribers.add(socket);
    socket.on("close", () => subscribers.delete(socket));
  } else {
    socket.on("message", (data) => {
      const text = data.toString();
      for (const subscriber of subscribers) subscriber.send(text);
    });
  }
});
server.on("listening", () => console.log(server.address().port));
