//! What the tests and lints need beyond a Rust toolchain and a C compiler.

use crate::sh::{cargo, root, sh};
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

const CARGO_DENY: &str = "0.20.2";
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Chromium, Node and npm from Debian's packages.
pub(crate) fn browser() -> Result<()> {
    debian(&[("chromium", "chromium"), ("node", "nodejs"), ("npm", "npm")])?;
    npm("tests/browser")
}

/// What the example behind the gateway is made of.
pub(crate) fn gateway_app() -> Result<()> {
    debian(&[("node", "nodejs"), ("npm", "npm")])?;
    npm("examples/gateway/app")
}

/// The workspace of the TypeScript packages, with the packages built.
pub(crate) fn packages() -> Result<()> {
    debian(&[("node", "nodejs"), ("npm", "npm")])?;
    npm(".")?;
    sh("npm", &["run", "--silent", "build"]).run()
}

/// What `@reseal/angular` is built and tested with; after [`packages`], on which it stands.
pub(crate) fn angular() -> Result<()> {
    npm("packages/angular")
}

/// What the lock file says, unless that was installed already.
fn npm(folder: &str) -> Result<()> {
    let changed = |file: &str| root().join(folder).join(file).metadata().and_then(|m| m.modified());
    let (wanted, installed) = (changed("package-lock.json")?, changed("node_modules/.package-lock.json"));
    if installed.is_ok_and(|installed| installed >= wanted) {
        return Ok(());
    }
    sh("npm", &["ci", "--no-audit", "--no-fund"]).dir(folder).run()
}

/// nginx, its modules and Caddy.
pub(crate) struct Proxies {
    pub(crate) nginx: PathBuf,
    pub(crate) nginx_modules: PathBuf,
    pub(crate) caddy: PathBuf,
}

impl Proxies {
    const PACKAGES: [&str; 3] = ["nginx", "libnginx-mod-http-headers-more-filter", "caddy"];

    fn below(folder: &Path) -> Self {
        Self {
            nginx: folder.join("usr/sbin/nginx"),
            nginx_modules: folder.join("usr/lib/nginx/modules"),
            caddy: folder.join("usr/bin/caddy"),
        }
    }

    fn are_there(&self) -> bool {
        let module = self.nginx_modules.join("ngx_http_headers_more_filter_module.so");
        self.nginx.exists() && self.caddy.exists() && module.exists()
    }
}

/// The proxies of this machine. If one is missing, Debian's packages are unpacked under `target/` and not
/// installed: installing would start two services. The libraries that they need are there wherever git and
/// Chromium are.
pub(crate) fn proxies() -> Result<Proxies> {
    let installed = Proxies::below(Path::new("/"));
    if installed.are_there() {
        return Ok(installed);
    }
    let folder = root().join("target/debian");
    let unpacked = Proxies::below(&folder);
    if !unpacked.are_there() {
        unpack(&Proxies::PACKAGES)?;
    }
    if !sh(&unpacked.nginx.to_string_lossy(), &["-v"]).succeeds() {
        bail!(
            "nginx of {} does not run here; please install: {}",
            folder.display(),
            Proxies::PACKAGES.join(" ")
        );
    }
    Ok(unpacked)
}

/// PostgreSQL, Redis, HAProxy and nginx for `reseal-test-servers`, which looks in the same places. What is
/// missing is unpacked and not installed, since installing would start services. And curl.
pub(crate) fn servers() -> Result<()> {
    debian(&[("curl", "curl")])?;
    let wanted = [
        ("postgres", "postgresql"),
        ("redis-server", "redis-server"),
        ("haproxy", "haproxy"),
        ("nginx", "nginx"),
    ];
    let missing: Vec<&str> =
        wanted.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { unpack(&missing) }
}

/// Whether a program is installed, or unpacked under `target/debian`.
fn is_there(program: &str) -> bool {
    let unpacked = root().join("target/debian");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for top in [Path::new("/"), &unpacked] {
        folders.extend(["usr/sbin", "usr/bin"].map(|folder| top.join(folder)));
        let versions = std::fs::read_dir(top.join("usr/lib/postgresql")).into_iter().flatten();
        folders.extend(versions.filter_map(Result::ok).map(|version| version.path().join("bin")));
    }
    folders.iter().any(|folder| folder.join(program).is_file())
}

/// Unpacks Debian packages under `target/debian`, with what they depend on and this machine lacks.
fn unpack(packages: &[&str]) -> Result<()> {
    let packages = packages.join(" ");
    if !sh("sh", &["-c", "command -v apt-get && command -v dpkg-deb"]).succeeds() {
        bail!("please install: {packages}");
    }
    std::fs::create_dir_all(root().join("target/debian"))?;
    // What is installed already needs no unpacking, save what was asked for by name.
    let download = format!(
        "plan=$(apt-get install -s -qq --no-install-recommends {packages}) && \
         lacking=$(echo \"$plan\" | sed -n 's/^Inst \\([^ ]*\\).*/\\1/p') && \
         apt-get download -qq $(printf '%s\\n' {packages} $lacking | sort -u)"
    );
    let line = format!(
        "rm -f *.deb && {{ {{ {download}; }} || {{ {}apt-get update -qq && {download}; }}; }} && \
         for package in *.deb; do dpkg-deb -x \"$package\" . || exit; done",
        sudo()
    );
    let unpacked = sh("sh", &["-c", &line]).dir("target/debian").run();
    unpacked.with_context(|| format!("please install: {packages}"))
}

/// Another issuer: the packages of `tests/issuers`.
pub(crate) fn issuers() -> Result<()> {
    debian(&[("node", "nodejs"), ("npm", "npm")])?;
    npm("tests/issuers")
}

/// `schemathesis` in a Python environment of its own; returns the program's path.
pub(crate) fn schemathesis() -> Result<String> {
    let folder = root().join("target/python");
    let program = folder.join("bin/schemathesis");
    let installed = folder.join(SCHEMATHESIS);
    if !installed.exists() {
        if !sh("python3", &["-c", "import venv, ensurepip"]).succeeds() {
            debian_packages(&["python3", "python3-venv"])?;
        }
        let folder = folder.to_string_lossy();
        sh("python3", &["-m", "venv", "--clear", &folder]).run()?;
        let pip = format!("{folder}/bin/pip");
        sh(&pip, &["install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS]).run()?;
        std::fs::write(installed, "")?;
    }
    Ok(program.to_string_lossy().into_owned())
}

/// `cargo deny` of the pinned version.
pub(crate) fn cargo_deny() -> Result<()> {
    let have = cargo(&["deny", "--version"]).read().unwrap_or_default();
    if String::from_utf8_lossy(&have).trim() == format!("cargo-deny {CARGO_DENY}") {
        return Ok(());
    }
    // A debug build does the same work and takes a third of the time to make.
    cargo(&["install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY]).run()
}

/// Programs with the Debian package that brings each.
fn debian(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| !sh("sh", &["-c", &format!("command -v {program}")]).succeeds())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() { Ok(()) } else { debian_packages(&missing) }
}

fn debian_packages(packages: &[&str]) -> Result<()> {
    if !sh("sh", &["-c", "command -v apt-get"]).succeeds() {
        bail!("please install: {}", packages.join(" "));
    }
    let sudo = sudo();
    let line = format!(
        "{sudo}apt-get update -qq && {sudo}env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y {}",
        packages.join(" ")
    );
    sh("sh", &["-c", &line]).run()
}

fn sudo() -> &'static str {
    if sh("sh", &["-c", "test \"$(id -u)\" = 0"]).succeeds() { "" } else { "sudo " }
}
