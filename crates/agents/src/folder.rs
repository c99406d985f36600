//! The folder of workflow files, and what of it may be read: files below it, and nothing else.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

/// What paths begin with in the original, wherever the folder is here.
const USUAL: &str = "configs/workflows";
/// The examples, for an installation whose folder does not have them.
const EXAMPLES: [(&str, &str); 4] = [
    ("react.yaml", include_str!("../../../configs/workflows/react.yaml")),
    ("plan_execute.yaml", include_str!("../../../configs/workflows/plan_execute.yaml")),
    ("collaborative.yaml", include_str!("../../../configs/workflows/collaborative.yaml")),
    ("human_review.yaml", include_str!("../../../configs/workflows/human_review.yaml")),
];
/// A definition's longest text, and the most files that `inherits_from` may find.
const LONGEST: u64 = 256 * 1024;
const MOST_FILES: usize = 200;

/// A workflow file, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its path as it is recorded: `configs/workflows/NAME`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// What it may inherit from, by name.
    pub(crate) others: BTreeMap<String, String>,
}

/// Reads the file of this path. Blocks.
pub(crate) fn read(folder: &Path, path: &str) -> Result<File> {
    let name = name_below(folder, path)
        .ok_or_else(|| Error::WorkflowPath(crate::ids::shown(path), USUAL.to_owned()))?;
    let text = match text_of(folder, Path::new(&name))? {
        Some(text) => text,
        None => example(&name).ok_or_else(|| Error::UnknownFile(crate::ids::shown(path)))?,
    };
    let others = if text.contains("inherits_from") { all_below(folder)? } else { BTreeMap::new() };
    Ok(File { path: format!("{USUAL}/{name}"), text, others })
}

fn example(name: &str) -> Option<String> {
    let found = EXAMPLES.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| (*text).to_owned())
}

/// The path below the folder: plain segments only, and the name of a YAML file.
fn name_below(folder: &Path, path: &str) -> Option<String> {
    let path = Path::new(path);
    let path = path.strip_prefix(".").unwrap_or(path);
    let own = path.strip_prefix(folder).ok().filter(|_| !folder.as_os_str().is_empty());
    let rest = own.or_else(|| path.strip_prefix(USUAL).ok()).unwrap_or(path);
    let mut parts = Vec::new();
    for component in rest.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    let name = parts.join("/");
    let yaml = name.rsplit_once('.').is_some_and(|(stem, end)| {
        !stem.is_empty() && (end.eq_ignore_ascii_case("yaml") || end.eq_ignore_ascii_case("yml"))
    });
    let plain = !name.contains(['\0', '\\']) && name.len() <= 255;
    (yaml && plain).then_some(name)
}

/// The text of a file below the folder, if it is there. A link that leads out of the folder is not.
fn text_of(folder: &Path, name: &Path) -> Result<Option<String>> {
    let Some((root, file)) = real(folder, name) else { return Ok(None) };
    if !file.starts_with(&root) || !file.is_file() {
        return Ok(None);
    }
    let mut text = String::new();
    std::fs::File::open(file)?.take(LONGEST + 1).read_to_string(&mut text)?;
    Ok(Some(text))
}

fn real(folder: &Path, name: &Path) -> Option<(PathBuf, PathBuf)> {
    let root = folder.canonicalize().ok()?;
    let file = root.join(name).canonicalize().ok()?;
    Some((root, file))
}

/// Every definition of the folder, and the examples, by name.
fn all_below(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut all: BTreeMap<String, String> =
        EXAMPLES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(all) };
    for entry in entries.take(MOST_FILES) {
        let name = entry?.file_name();
        let Some(name) = name.to_str().and_then(|name| name_below(folder, name)) else { continue };
        if let Some(text) = text_of(folder, Path::new(&name))? {
            all.insert(name, text);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("flows");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("a.yaml"), "name: a").unwrap();
        std::fs::write(folder.join("child.yaml"), "inherits_from: a.yaml").unwrap();
        std::fs::write(folder.join("sub/b.yml"), "name: b").unwrap();
        std::fs::write(parent.path().join("secret.yaml"), "name: secret").unwrap();
        std::os::unix::fs::symlink(parent.path().join("secret.yaml"), folder.join("link.yaml"))
            .unwrap();
        parent
    }

    #[test]
    fn files_below_the_folder_are_read_under_either_name() {
        let parent = folder();
        let flows = parent.path().join("flows");
        for path in ["a.yaml", "./a.yaml", "configs/workflows/a.yaml", "./configs/workflows/a.yaml"]
        {
            let file = read(&flows, path).unwrap();
            assert_eq!(
                (file.path.as_str(), file.text.as_str()),
                ("configs/workflows/a.yaml", "name: a")
            );
        }
        assert_eq!(read(&flows, flows.join("a.yaml").to_str().unwrap()).unwrap().text, "name: a");
        assert_eq!(read(&flows, "sub/b.yml").unwrap().text, "name: b");
        assert!(read(&flows, "configs/workflows/react.yaml").unwrap().text.contains("react"));
        assert_eq!(read(&flows, "child.yaml").unwrap().others["a.yaml"], "name: a");
    }

    #[test]
    fn nothing_outside_is_read_or_told_of() {
        let parent = folder();
        let flows = parent.path().join("flows");
        for path in [
            "../secret.yaml",
            "configs/workflows/../secret.yaml",
            "sub/../../secret.yaml",
            "/etc/passwd",
            "/etc/configs/x.yaml",
            "a.txt",
            ".yaml",
            "",
            "a.yaml\0",
            "..\\secret.yaml",
        ] {
            assert!(matches!(read(&flows, path), Err(Error::WorkflowPath(..))), "{path}");
        }
        for path in ["link.yaml", "none.yaml", "sub.yaml"] {
            assert!(matches!(read(&flows, path), Err(Error::UnknownFile(_))), "{path}");
        }
    }
}
