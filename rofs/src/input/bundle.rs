//! A bundle: a directory with a config.json, which names the root directory.

use super::directory::add_directory;
use crate::failure::{Context, Failure};
use crate::progress::Progress;
use crate::tree::Layers;
use std::path::{Path, PathBuf};

/// The root directory that a bundle's `config.json` names, `root.path`.
///
/// # Errors
/// What reading says; [`Failure::Input`] if the file has none.
pub fn bundle_root(bundle: &Path) -> Result<PathBuf, Failure> {
    let config = bundle.join("config.json");
    let text = std::fs::read(&config).when("read", &config)?;
    let object = || config.display().to_string();
    let value: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|e| Failure::input(object(), e.to_string(), "mend its JSON"))?;
    let path = value.pointer("/root/path").and_then(|p| p.as_str()).filter(|p| !p.is_empty());
    let path = path.ok_or_else(|| Failure::input(object(), "no root.path in it", "set root.path"))?;
    // An absolute path stays what it is.
    Ok(bundle.join(path))
}

/// Adds the root directory of a bundle to the current layer.
///
/// # Errors
/// As [`bundle_root`] and [`add_directory`].
pub fn add_bundle(
    layers: &mut Layers,
    bundle: &Path,
    exclude: &dyn Fn(&[u8]) -> bool,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    add_directory(layers, &bundle_root(bundle)?, exclude, progress)
}
