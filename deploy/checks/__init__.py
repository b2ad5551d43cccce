"""The checks, by name. Each takes the tools and returns a list of faults, in words."""

from . import book, containers, machines, monitoring, proxies
from .tools import Tools

ALL = {
    "systemd": machines.systemd,
    "docker": containers.docker,
    "kubernetes": containers.kubernetes,
    "prometheus": monitoring.prometheus,
    "grafana": monitoring.grafana,
    "haproxy": proxies.haproxy,
    "nginx": proxies.nginx,
    "book": book.book,
}
