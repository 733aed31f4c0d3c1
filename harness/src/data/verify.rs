//! Data files against the SHA-256 of a manifest.
//!
//! ```text
//! MANIFEST.json = {"files": [{"file": "gsm8k/test.jsonl", "bytes": 749738, "sha256": "…", …}, …], …}     paths relative to it
//! ```

use super::source;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The part of a manifest that is needed here; other fields are left alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DataManifest {
    /// Its files.
    pub files: Vec<DataFile>,
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Path relative to the manifest.
    pub file: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256, 64 hex digits.
    pub sha256: String,
    /// What uses it.
    #[serde(default)]
    pub task: Option<String>,
    /// Its licence.
    #[serde(default)]
    pub licence: Option<String>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Check {
    /// Size and hash are as stated.
    Good,
    /// The file is not there.
    Missing,
    /// The file is something else.
    Different {
        /// What differs: stated and found.
        found: String,
    },
}

impl DataManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is missing or lacks the fields above.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the manifest `{}`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("cannot read the manifest `{}`", path.display()))
    }
}

impl DataFile {
    /// Compares the file below `root` with what the manifest states.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn check(&self, root: &Path) -> anyhow::Result<Check> {
        let path = root.join(&self.file);
        let Ok(metadata) = std::fs::metadata(&path) else { return Ok(Check::Missing) };
        if metadata.len() != self.bytes {
            return Ok(Check::Different { found: format!("expected {} bytes, found {}", self.bytes, metadata.len()) });
        }
        let sha256 = source::sha256(&path)?;
        if sha256 == self.sha256 {
            Ok(Check::Good)
        } else {
            Ok(Check::Different { found: format!("expected sha256 {}, found {sha256}", self.sha256) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_hash_are_checked() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("abc"), "abc").unwrap();
        // sha256("abc"): FIPS 180-2 appendix B.1
        let text = r#"{"note": "x", "files": [{"file": "abc", "bytes": 3, "rows": 1,
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}]}"#;
        std::fs::write(root.path().join("MANIFEST.json"), text).unwrap();
        let file = DataManifest::load(&root.path().join("MANIFEST.json")).unwrap().files.remove(0);
        assert_eq!(file.check(root.path()).unwrap(), Check::Good);
        std::fs::write(root.path().join("abc"), "abd").unwrap();
        assert!(matches!(file.check(root.path()).unwrap(), Check::Different { found } if found.contains("sha256")));
        std::fs::write(root.path().join("abc"), "ab").unwrap();
        assert!(matches!(file.check(root.path()).unwrap(), Check::Different { found } if found == "expected 3 bytes, found 2"));
        std::fs::remove_file(root.path().join("abc")).unwrap();
        assert_eq!(file.check(root.path()).unwrap(), Check::Missing);
    }
}
