//! Evaluations in a folder: one file each, the message that clients get of it, under the job's number.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use prost::Message;
use quintet_proto::evaluation::v1::{CreateEvaluationRequest, Evaluation};

use super::convert;
use crate::{
    Error,
    engine::{
        job::{Job, Snapshot},
        journal::{Journal, Noted},
    },
};

/// How a whole file's name ends, and one's that is being written.
const WHOLE: &str = "evaluation";
const PARTIAL: &str = "partial";

/// The file whose lock says that a process uses the folder. The lock goes with the process, however that ends.
const LOCK: &str = "lock";

/// A folder of evaluations, ours alone.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens the folder, makes it where it is not there, and reads what was noted in it, the oldest first.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Noted<CreateEvaluationRequest>>), Error> {
        fs::create_dir_all(path).map_err(failed(path))?;
        let lock = path.join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&lock).map_err(failed(&lock))?;
        file.try_lock().map_err(|_| Error::Journal { path: path.to_owned(), reason: "another process keeps its evaluations there".to_owned() })?;
        let mut noted = Vec::new();
        for entry in fs::read_dir(path).map_err(failed(path))? {
            let file = entry.map_err(failed(path))?.path();
            match file.extension().and_then(|ending| ending.to_str()) {
                Some(WHOLE) => noted.push(read(&file)?),
                // Its process ended before the file was whole, so nobody was told.
                Some(PARTIAL) => fs::remove_file(&file).map_err(failed(&file))?,
                _ => (),
            }
        }
        noted.sort_by_key(|noted| noted.number);
        Ok((Self { path: path.to_owned(), _lock: file }, noted))
    }

    fn file(&self, number: u64, ending: &str) -> PathBuf {
        self.path.join(format!("{number:020}.{ending}"))
    }
}

impl Journal<CreateEvaluationRequest> for Folder {
    fn note(&self, job: &Job<CreateEvaluationRequest>, snapshot: &Snapshot) -> Result<(), Error> {
        let (partial, whole) = (self.file(job.number, PARTIAL), self.file(job.number, WHOLE));
        let bytes = convert::evaluation(job.noted(snapshot.clone())).encode_to_vec();
        let write = || -> io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&partial, &whole)?;
            // The name is the folder's, which has to reach the disk too.
            File::open(&self.path)?.sync_all()
        };
        write().map_err(failed(&whole))
    }

    fn forget(&self, number: u64) -> Result<(), Error> {
        let whole = self.file(number, WHOLE);
        fs::remove_file(&whole).map_err(failed(&whole))
    }
}

fn read(file: &Path) -> Result<Noted<CreateEvaluationRequest>, Error> {
    let broken = |reason: String| Error::Journal { path: file.to_owned(), reason };
    let number = file.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
    let number = number.ok_or_else(|| broken("its name is no number".to_owned()))?;
    let bytes = fs::read(file).map_err(failed(file))?;
    let evaluation = Evaluation::decode(bytes.as_slice()).map_err(|error| broken(error.to_string()))?;
    convert::noted(number, evaluation).map_err(broken)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::Journal { path: path.to_owned(), reason: error.to_string() }
}
