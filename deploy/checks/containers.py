"""The image, the compose file, and the manifests for Kubernetes."""

import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import jsonschema
import pathspec
import yaml
from compose_spec import PyCompose

from .machines import seconds

# The oldest and the newest version of Kubernetes that the manifests must be right for.
KUBERNETES = ("1.31.0", "1.37.0")


def docker(tools):
    folder = tools.deploy / "docker"
    faults = tools.faults(tools.run("hadolint", folder / "Dockerfile"))
    text = (folder / "compose.yaml").read_text()
    try:
        compose = PyCompose.from_yaml(text)
        compose.validate()
        compose.to_spec()
    except Exception as error:  # Its errors have no common type.
        faults.append(f"compose.yaml: {error}")
    faults += configuration(tools, "docker/reseal.toml", (folder / "reseal.toml").read_text())
    faults += toolchain(tools, (folder / "Dockerfile").read_text())
    authority = yaml.safe_load(text)["services"]["authority"]
    settings = tomllib.loads((folder / "reseal.toml").read_text())
    faults += enough_time(tools, settings, seconds(authority["stop_grace_period"]), "compose.yaml: stop_grace_period")
    return faults + context(tools)


def toolchain(tools, dockerfile):
    """The image is built by the toolchain that Cargo.toml asks for, on the Debian that it runs on."""
    wanted = tomllib.loads((tools.root / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    build, run = re.findall(r"^FROM \S+:(\S+)", dockerfile, re.M)
    version, debian = build.split("-")[0], build.split("-")[-1]
    faults = [] if version.startswith(wanted) else [f"Dockerfile: Rust {version}, but Cargo.toml says {wanted}"]
    return faults + ([] if debian in run else [f"Dockerfile: built on {debian}, run on {run}"])


def context(tools):
    """What .dockerignore lets through is a whole workspace, and has no secrets."""
    ignored = pathspec.PathSpec.from_lines("gitwildmatch", (tools.root / ".dockerignore").read_text().splitlines())
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=tools.root, capture_output=True, text=True, check=True)
    files = [f for f in listed.stdout.split("\0") if f and not ignored.match_file(f) and (tools.root / f).is_file()]
    faults = [f".dockerignore: {f} would be in the image's source" for f in
              ("target/debug/reseal", "crates/cli/target/x", "crates/cli/node_modules/x", "reseal-data/master.key", ".git/HEAD",
               "crates/cli/reseal-data/reseal.db", "deploy/docker/secrets/environment") if not ignored.match_file(f)]
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            target = Path(folder, file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tools.root / file, target)
        words = ["cargo", "metadata", "--locked", "--format-version=1", "--quiet"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            faults.append(f".dockerignore: the workspace is not whole: {done.stderr}")
        for file in files:
            if file.endswith(".rs") and "/src/" in file:
                for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', (tools.root / file).read_text()):
                    if not (Path(folder, file).parent / name).exists():
                        faults.append(f".dockerignore: {file} includes {name}, which is left out")
    return faults


def kubernetes(tools):
    folder = tools.deploy / "kubernetes"
    files = sorted(f for f in folder.glob("*.yaml") if f.name != "kustomization.yaml")
    faults = tools.faults(
        *(tools.run("kubernetes-validate", "--strict", "--quiet", "-k", version, *files) for version in KUBERNETES)
    )
    named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    for file in files:
        if file.name not in named and file.name != "namespace.yaml":
            faults.append(f"kustomization.yaml does not name {file.name}")
    faults += [f"kustomization.yaml names {name}, which is not there" for name in named if not (folder / name).exists()]
    objects = {o["kind"]: o for f in files for o in yaml.safe_load_all(f.read_text())}
    text = objects["ConfigMap"]["data"]["reseal.toml"]
    faults += configuration(tools, "configmap.yaml", text)
    pod = objects["Deployment"]["spec"]["template"]
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    faults += enough_time(tools, tomllib.loads(text), grace, "deployment.yaml: terminationGracePeriodSeconds")
    return faults + belong_together(objects, pod) + restricted(pod["spec"])


def belong_together(objects, pod):
    """Selectors find the pods, and ports have the names that are asked for."""
    labels = pod["metadata"]["labels"].items()
    selectors = {
        "Deployment": objects["Deployment"]["spec"]["selector"]["matchLabels"],
        "Service": objects["Service"]["spec"]["selector"],
        "PodDisruptionBudget": objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    }
    faults = [f"{kind} does not select the pods" for kind, selector in selectors.items() if not selector.items() <= labels]
    container = pod["spec"]["containers"][0]
    ports = {p["name"] for p in container["ports"]}
    asked = {p["targetPort"] for p in objects["Service"]["spec"]["ports"]}
    asked |= {p["port"] for rule in objects["NetworkPolicy"]["spec"]["ingress"] for p in rule["ports"]}
    asked |= {container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "liveness", "readiness")}
    faults += [f"there is no port {name}" for name in asked - ports]
    if pod["spec"]["serviceAccountName"] != objects["ServiceAccount"]["metadata"]["name"]:
        faults.append("the pods use another ServiceAccount")
    listen = re.search(r'^listen = ".*:(\d+)"', objects["ConfigMap"]["data"]["reseal.toml"], re.M)
    if int(listen[1]) not in {p["containerPort"] for p in container["ports"]}:
        faults.append("the configuration listens on another port than the container")
    return faults


def restricted(spec):
    """The Pod Security Standard `restricted`, and a read-only root file system."""
    pod, container = spec["securityContext"], spec["containers"][0]["securityContext"]
    wanted = {
        "runAsNonRoot": pod.get("runAsNonRoot") is True and pod.get("runAsUser", 0) > 0,
        "seccompProfile": pod.get("seccompProfile", {}).get("type") == "RuntimeDefault",
        "allowPrivilegeEscalation": container.get("allowPrivilegeEscalation") is False,
        "capabilities": container.get("capabilities") == {"drop": ["ALL"]},
        "readOnlyRootFilesystem": container.get("readOnlyRootFilesystem") is True,
        "volumes": all({"configMap", "emptyDir", "secret"} & v.keys() for v in spec["volumes"]),
        "no host namespaces": not any(spec.get(k) for k in ("hostNetwork", "hostPID", "hostIPC")),
        "no service account token": spec.get("automountServiceAccountToken") is False,
    }
    return [f"deployment.yaml: {name} is not as `restricted` asks" for name, holds in wanted.items() if not holds]


def configuration(tools, name, text):
    """The configuration is one by its schema."""
    validator = jsonschema.Draft202012Validator(tools.schema())
    return [f"{name}: {'.'.join(map(str, e.path))}: {e.message}" for e in validator.iter_errors(tomllib.loads(text))]


def enough_time(tools, settings, grace, what):
    """Whoever stops the authority waits longer than it takes to stop."""
    known = tools.schema()["$defs"]["ServerConfig"]["properties"]
    server = settings.get("server", {})
    of = lambda key: seconds(server.get(key) or known.get(key, {}).get("default", "0s"))
    takes = of("drain_time") + of("shutdown_timeout")
    return [] if grace >= takes + 5 else [f"{what} ({grace} s) is not 5 s above drain_time + shutdown_timeout ({takes} s)"]
