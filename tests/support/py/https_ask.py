"""Asks over HTTPS with Python's own client.   https_ask.py URL CA [CERT KEY] [--token FILE] [--basic]

Prints {"status": code, "body": text, "serial": the server's certificate's, "asks": WWW-Authenticate}, or {"error": text}.
"""
import base64
import json
import socket
import ssl
import sys
from http.client import HTTPSConnection
from urllib.parse import urlparse

def main(words):
    token, basic = None, "--basic" in words
    words = [word for word in words if word != "--basic"]
    if "--token" in words:
        at = words.index("--token")
        token = open(words[at + 1]).read().strip()
        words = words[:at] + words[at + 2:]
    url, ca, *pair = words
    context = ssl.create_default_context(cafile=ca)
    if pair:
        context.load_cert_chain(*pair)
    headers = {}
    if token:
        plain = "Basic " + base64.b64encode(b"me:" + token.encode()).decode()
        headers["Authorization"] = plain if basic else f"Bearer {token}"
    where = urlparse(url)
    line = HTTPSConnection(where.hostname, where.port, context=context, timeout=10)
    try:
        line.request("GET", where.path, headers=headers)
        serial = line.sock.getpeercert()["serialNumber"]
        answer = line.getresponse()
        body = answer.read().decode()
        print(json.dumps({"status": answer.status, "body": body, "serial": serial, "asks": answer.headers.get("WWW-Authenticate")}))
    except (ssl.SSLError, socket.error) as error:
        print(json.dumps({"error": str(error)}))


main(sys.argv[1:])
