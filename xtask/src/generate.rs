//! Generated files under `docs/`: committed, so that they can be read, and checked, so that they are true.

use crate::sh::{cargo, root};
use anyhow::{Result, bail};

/// What `reseal generate` prints, and where it is kept.
const FILES: [(&str, &str); 3] = [
    ("openapi", "docs/openapi.json"),
    ("config-schema", "docs/config.schema.json"),
    ("commands", "docs/src/reference/commands.md"),
];

/// Writes them.
pub(crate) fn write() -> Result<()> {
    for (what, path) in FILES {
        let path = root().join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, generate(what)?)?;
    }
    Ok(())
}

/// An error when one is stale.
pub(crate) fn check() -> Result<()> {
    for (what, path) in FILES {
        if std::fs::read(root().join(path)).unwrap_or_default() != generate(what)? {
            bail!("{path} is stale: run `cargo xtask generate` and commit it");
        }
    }
    Ok(())
}

fn generate(what: &str) -> Result<Vec<u8>> {
    cargo(&["run", "--quiet", "--locked", "--package", "reseal", "--", "generate", what]).read()
}
