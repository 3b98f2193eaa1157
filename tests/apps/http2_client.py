"""Sends requests over HTTP/2, all at once on one connection, and prints the status of each.

Arguments: port, file of a certificate or `-`, then `METHOD PATH BYTES-OF-BODY` for each request.
"""

import socket
import ssl
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset


def connect(port, certificate):
    plain = socket.create_connection(("localhost", port), 20)
    if certificate == "-":
        return plain
    context = ssl.create_default_context(cafile=certificate)
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(plain, server_hostname="localhost")


def main(port, certificate, *requests):
    wire = connect(int(port), certificate)
    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    scheme = "http" if certificate == "-" else "https"
    unsent, statuses, streams = {}, {}, []
    for request in requests:
        method, path, size = request.split(" ")
        stream = connection.get_next_available_stream_id()
        streams.append(stream)
        unsent[stream] = int(size)
        head = {":method": method, ":path": path, ":scheme": scheme, ":authority": "localhost"}
        if unsent[stream]:
            head["content-length"] = size
        connection.send_headers(stream, list(head.items()), end_stream=not unsent[stream])
    ended = set()
    while len(ended) < len(streams):
        for stream, left in unsent.items():
            window = connection.local_flow_control_window(stream) if left else 0
            size = min(left, window, connection.max_outbound_frame_size)
            if size:
                connection.send_data(stream, b"u" * size, end_stream=size == left)
                unsent[stream] -= size
        wire.sendall(connection.data_to_send())
        received = wire.recv(65536)
        if not received:
            break
        for event in connection.receive_data(received):
            if isinstance(event, ResponseReceived):
                statuses[event.stream_id] = dict(event.headers)[":status"]
            if isinstance(event, DataReceived):
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, (StreamEnded, StreamReset)):
                ended.add(event.stream_id)
    for stream in streams:
        print(statuses.get(stream, "none"))


main(*sys.argv[1:])
