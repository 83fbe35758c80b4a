use std::path::{Path, PathBuf};

use crate::{Error, ModelFolder, ModelsConfig, folder::MANIFEST};

/// The model folders of a repository.
#[derive(Clone, Debug)]
pub struct Repository {
    path: PathBuf,
    folders: Vec<ModelFolder>,
    keep_going: bool,
    verify: bool,
}

impl Repository {
    /// Finds the model folders under the configured path: `NAME/` with a `quintet.toml`, or the highest
    /// `NAME/VERSION/` with one. Their graphs are not loaded yet.
    pub fn open(config: &ModelsConfig) -> Result<Self, Error> {
        let mut folders = Vec::new();
        for (name, path) in subfolders(&config.path)? {
            let Some((version, path)) = version_of(&path)? else { continue };
            match ModelFolder::open(name, version, &path) {
                Ok(folder) => folders.push(folder),
                Err(error) if config.keep_going => tracing::error!(%error, "a model folder is left out"),
                Err(error) => return Err(error),
            }
        }
        Ok(Self { path: config.path.clone(), folders, keep_going: config.keep_going, verify: config.verify })
    }

    /// Where the repository is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether golden pairs are to be checked at load.
    pub fn verifies(&self) -> bool {
        self.verify
    }

    /// Whether what is broken or missing is reported and left out.
    pub fn keeps_going(&self) -> bool {
        self.keep_going
    }

    /// Its model folders, in order of name.
    pub fn folders(&self) -> &[ModelFolder] {
        &self.folders
    }

    /// Verifies and loads every folder that `wanted` picks, with `load`. A folder that fails ends the whole, or,
    /// with `keep_going`, is reported and left out.
    pub fn load<T, E>(&self, wanted: impl Fn(&ModelFolder) -> bool, mut load: impl FnMut(&ModelFolder) -> Result<T, E>) -> Result<Vec<T>, E>
    where
        E: From<Error> + std::fmt::Display,
    {
        let mut loaded = Vec::new();
        for folder in self.folders.iter().filter(|folder| wanted(folder)) {
            let checked = if self.verify { folder.verify().map_err(E::from) } else { Ok(()) };
            match checked.and_then(|()| load(folder)) {
                Ok(model) => loaded.push(model),
                Err(error) if self.keep_going => tracing::error!(model = folder.name, %error, "a model is left out"),
                Err(error) => return Err(error),
            }
        }
        Ok(loaded)
    }
}

/// The folder of the version to serve, and its name: the folder itself counts as version 1.
fn version_of(path: &Path) -> Result<Option<(String, PathBuf)>, Error> {
    if path.join(MANIFEST).is_file() {
        return Ok(Some(("1".to_owned(), path.to_owned())));
    }
    let versions = subfolders(path)?.into_iter().filter(|(_, path)| path.join(MANIFEST).is_file());
    // Versions that are numbers are compared as numbers: 10 is newer than 9.
    Ok(versions.max_by(|(a, _), (b, _)| (a.parse::<u64>().ok(), a).cmp(&(b.parse::<u64>().ok(), b))))
}

fn subfolders(path: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let unreadable = |error: std::io::Error| Error::Repository { path: path.to_owned(), reason: error.to_string() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().is_dir()
            && let Some(name) = entry.file_name().to_str()
            && !name.starts_with('.')
        {
            found.push((name.to_owned(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST_TEXT: &str =
        "schema = 1\nkind = \"gan\"\ndescription = \"\"\nlicense = \"\"\ntraining_data = []\ngolden_tolerance = 0.0\n[gan]\n[sha256]\n";

    fn repository(folders: &[&str]) -> (tempfile::TempDir, ModelsConfig) {
        let root = tempfile::tempdir().unwrap();
        for folder in folders {
            let path = root.path().join(folder);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(MANIFEST), MANIFEST_TEXT).unwrap();
        }
        let config = ModelsConfig { path: root.path().to_owned(), keep_going: false, verify: true };
        (root, config)
    }

    #[test]
    fn the_highest_version_is_served() {
        let (_root, config) = repository(&["b/2", "b/10", "b/9", "a"]);
        let ids: Vec<_> = Repository::open(&config).unwrap().folders().iter().map(ModelFolder::id).collect();
        assert_eq!(ids, ["a@1", "b@10"]);
    }

    #[test]
    fn a_broken_folder_ends_the_whole_unless_told_to_keep_going() {
        let (root, mut config) = repository(&["good/1", "bad/1"]);
        std::fs::write(root.path().join("bad/1").join(MANIFEST), "kind = 3").unwrap();
        let fault = Repository::open(&config).unwrap_err().to_string();
        assert!(fault.contains("bad") && fault.contains(MANIFEST), "{fault}");
        config.keep_going = true;
        assert_eq!(Repository::open(&config).unwrap().folders().len(), 1);
    }

    #[test]
    fn a_missing_repository_is_named() {
        let config = ModelsConfig { path: "/nowhere/models".into(), keep_going: true, verify: true };
        assert!(Repository::open(&config).unwrap_err().to_string().contains("/nowhere/models"));
    }
}
