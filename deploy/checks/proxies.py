"""The configurations of HAProxy and nginx, by HAProxy and nginx themselves."""

import re
import tempfile
from pathlib import Path


def certificate(tools, folder):
    """A self-signed certificate; returns a fault or None."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", folder / "key.pem")
    return tools.run("openssl", "req", "-x509", "-days", "1", "-subj", "/CN=auth.example.org", *key, "-out", folder / "certificate.pem")


def haproxy(tools):
    text = (tools.deploy / "haproxy/haproxy.cfg").read_text()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if fault := certificate(tools, folder):
            return [fault]
        (folder / "certs").mkdir()
        both = (folder / "certificate.pem").read_text() + (folder / "key.pem").read_text()
        (folder / "certs/auth.pem").write_text(both)
        text = text.replace("/etc/haproxy/certs/", f"{folder}/certs/")
        # This machine need not have its user.
        text = re.sub(r"^    (?:user|group) haproxy\n", "", text, flags=re.M)
        (folder / "haproxy.cfg").write_text(text)
        # -dW: a warning is a fault.
        return tools.faults(tools.run("haproxy", "-c", "-dW", "-f", folder / "haproxy.cfg"))


def nginx(tools):
    text = (tools.deploy / "nginx/authorities.conf").read_text()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if fault := certificate(tools, folder):
            return [fault]
        text = text.replace("/etc/nginx/certs/auth.example.org.pem", f"{folder}/certificate.pem")
        text = text.replace("/etc/nginx/certs/auth.example.org.key", f"{folder}/key.pem")
        # The test binds, and this user may have no right to the real ports.
        text = re.sub(r"^    listen \[::\]:.*\n", "", text, flags=re.M)
        text = re.sub(r"^    listen (443|80)\b", r"    listen 127.0.0.1:1\1", text, flags=re.M)
        text = text.replace("127.0.0.1:180;", "127.0.0.1:1480;")
        paths = "".join(f"{p}_temp_path {folder}/{p}; " for p in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        whole = f"pid {folder}/nginx.pid; error_log stderr; events {{}}\nhttp {{ access_log off; {paths}\n{text}\n}}\n"
        (folder / "nginx.conf").write_text(whole)
        said = tools.run("nginx", "-t", "-q", "-p", folder, "-c", folder / "nginx.conf")
        return tools.faults(said)
