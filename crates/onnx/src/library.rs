//! Where the ONNX Runtime library is.

use std::path::{Path, PathBuf};

use crate::Error;

/// The ONNX Runtime version that Quintet is tested with and that `scripts/onnxruntime` fetches.
pub const LIBRARY_VERSION: &str = "1.32.0";

/// The folder in the project where `scripts/onnxruntime` puts the library.
const PROJECT_FOLDER: &str = ".runtime/onnxruntime";

const SYSTEM_FOLDERS: [&str; 5] = ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];

/// Finds the library: the path that was named; else the project's own copy, seen from the working directory
/// and from the program's place in `target/`; else beside the program; else the system's.
///
/// A named path that does not exist is an error and not a reason to look elsewhere: whoever named it meant it.
pub(crate) fn find(named: &Path) -> Result<PathBuf, Error> {
    let program = std::env::current_exe().ok();
    let places = if named.as_os_str().is_empty() { places(program.as_deref()) } else { vec![named.to_owned()] };
    places.iter().find_map(|place| library_in(place)).ok_or_else(|| Error::LibraryMissing {
        looked_at: places.iter().map(|place| place.display().to_string()).collect(),
        version: LIBRARY_VERSION,
    })
}

fn places(program: Option<&Path>) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(PROJECT_FOLDER)];
    if let Some(folder) = program.and_then(Path::parent) {
        // target/release/quintet and target/release/deps/test-binary both lie under the project.
        places.extend(folder.ancestors().take(4).map(|ancestor| ancestor.join(PROJECT_FOLDER)));
        places.push(folder.to_owned());
    }
    places.extend(SYSTEM_FOLDERS.map(PathBuf::from));
    places
}

/// The library at `place`: the file itself, or the newest `libonnxruntime.so*` in a folder.
fn library_in(place: &Path) -> Option<PathBuf> {
    if place.is_file() {
        return Some(place.to_owned());
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(place)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name == "libonnxruntime.dylib" || name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so."))
        })
        .collect();
    found.sort();
    found.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_path_is_the_only_place() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("libonnxruntime.so.9");
        let Err(Error::LibraryMissing { looked_at, .. }) = find(&missing) else { panic!("found a missing library") };
        assert_eq!(looked_at, [missing.display().to_string()]);

        std::fs::write(&missing, "").unwrap();
        assert_eq!(find(&missing).unwrap(), missing);
        assert_eq!(find(folder.path()).unwrap(), missing, "a folder may be named too");
    }

    #[test]
    fn the_error_says_what_to_do() {
        let message = find(Path::new("/nowhere/libonnxruntime.so")).unwrap_err().to_string();
        assert!(message.contains("/nowhere/libonnxruntime.so"), "{message}");
        assert!(message.contains("scripts/onnxruntime"), "{message}");
    }

    #[test]
    fn the_project_is_found_from_a_program_in_target() {
        let places = places(Some(Path::new("/project/target/release/deps/tests")));
        assert!(places.contains(&PathBuf::from("/project/.runtime/onnxruntime")), "{places:?}");
    }
}
