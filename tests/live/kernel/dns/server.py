"""A DNS server that does what the first label of the name says. Ends when its input does."""

import socket
import struct
import sys
import threading
import time

CODES = {"servfail": 2, "nx": 3, "refused": 5}


def answer(server, question, asker):
    label = question[13 : 13 + question[12]].decode()
    if label == "never":
        return
    if label.startswith("delay"):
        time.sleep(int(label[5:]) / 1000)
    code = CODES.get(label, 0)
    end = question.index(0, 12) + 5
    flags = 0x8180 | code | (0x200 if label == "cut" else 0)
    header = question[:2] + struct.pack(">HHHHH", flags, 1, int(code == 0), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([10, 1, 2, 3])
    server.sendto(header + question[12:end] + (record if code == 0 else b""), asker)


def serve(family, address):
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.bind((address, 53))

    def loop():
        while True:
            question, asker = server.recvfrom(4096)
            threading.Thread(target=answer, args=(server, question, asker), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()


serve(socket.AF_INET, "127.0.0.1")
serve(socket.AF_INET6, "::1")
print("ready", flush=True)
sys.stdin.read()
