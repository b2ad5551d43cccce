//! A file with a JSON Web Key Set, or with one JSON Web Key.

use crate::exit::{misused, unreadable};
use anyhow::bail;
use reseal_jose::{KeySetError, VerifyingKeys};
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Largest file read; the key set's own bound is far below.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads the keys. A file that is no JSON object is the caller's mistake; one without a usable key
/// verifies nothing.
pub(super) fn read(path: &Path) -> anyhow::Result<VerifyingKeys> {
    let failed = |error| unreadable(path, &error);
    let mut json = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_FILE + 1).read_to_end(&mut json).map_err(failed)?;
    let shown = path.display();
    if json.len() as u64 > MAX_FILE {
        bail!("no usable key: {shown} is larger than 1 MiB, which no key set is");
    }
    if let Err(error) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(&json) {
        return Err(misused(format!("{shown} is neither a JSON Web Key Set nor a JSON Web Key: {error}")));
    }
    let keys = match VerifyingKeys::parse(&json) {
        Err(KeySetError::NoKeys) => VerifyingKeys::parse(&[br#"{"keys":["#, json.as_slice(), b"]}"].concat()),
        parsed => parsed,
    };
    let keys = keys.map_err(|e| anyhow::anyhow!("no usable key in {shown}: {e}"))?;
    if keys.keys().is_empty() {
        match keys.skipped().first() {
            Some(skipped) => bail!("no usable key in {shown}: {}", skipped.reason),
            None => bail!("no usable key in {shown}: the set is empty"),
        }
    }
    Ok(keys)
}
