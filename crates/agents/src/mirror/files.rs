//! The history's files: a folder for each month, a file for each session, a line for each record.

use std::fs::{self, File, OpenOptions};
use std::io::{
    BufReader, BufWriter, Error, ErrorKind, Read as _, Result, Seek as _, SeekFrom, Write as _,
};
use std::path::{Path, PathBuf};

use kernel::Timestamp;
use serde::Deserialize;

use crate::store::history::Kept;

const FOLDER: &str = "history";
const POSITION: &str = "position";
/// A line is looked for so far from a file's end at first.
const TAIL: u64 = 64 * 1024;

/// The files below the data folder. Everything blocks.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

/// What of a line is needed.
#[derive(Deserialize)]
struct Line {
    seq: i64,
    timestamp: String,
}

impl Files {
    pub(crate) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The data folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self) -> PathBuf {
        self.root.join(FOLDER)
    }

    /// How far all files are.
    pub(super) fn read_position(&self) -> Result<Timestamp> {
        match fs::read_to_string(self.folder().join(POSITION)) {
            Ok(text) => Ok(Timestamp::from_micros(text.trim().parse().unwrap_or_default())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Timestamp::default()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write_position(&self, position: Timestamp) -> Result<()> {
        fs::create_dir_all(self.folder())?;
        let whole = self.folder().join(POSITION);
        let next = whole.with_extension("next");
        fs::write(&next, position.micros().to_string())?;
        fs::rename(next, whole)
    }

    /// The months there are, the newest first.
    fn months(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.folder()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut months = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.len() == 6 && name.bytes().all(|byte| byte.is_ascii_digit()) {
                months.push(path);
            }
        }
        months.sort_unstable_by(|one, two| two.cmp(one));
        Ok(months)
    }

    fn files_of(&self, session_id: &str) -> Result<Vec<PathBuf>> {
        let months = self.months()?.into_iter().map(|month| month.join(file_name(session_id)));
        Ok(months.filter(|file| file.exists()).collect())
    }

    /// How many files a session has.
    pub(super) fn count(&self, session_id: &str) -> Result<u64> {
        Ok(self.files_of(session_id)?.len() as u64)
    }

    /// The number of the last whole line of a session's files; what is behind it is cut off.
    pub(super) fn last_number(&self, session_id: &str) -> Result<i64> {
        let mut last = 0;
        for file in self.files_of(session_id)? {
            last = last.max(last_of(&file)?);
        }
        Ok(last)
    }

    /// Appends records, each to its month.
    pub(super) fn append(&self, session_id: &str, records: &[Kept]) -> Result<()> {
        let mut open: Option<(String, BufWriter<File>)> = None;
        for kept in records {
            let line: Line = serde_json::from_str(&kept.body)
                .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
            let month: String =
                line.timestamp.chars().filter(char::is_ascii_digit).take(6).collect();
            if open.as_ref().is_none_or(|(known, _)| *known != month) {
                if let Some((_, mut done)) = open.take() {
                    done.flush()?;
                }
                let folder = self.folder().join(&month);
                fs::create_dir_all(&folder)?;
                let path = folder.join(file_name(session_id));
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                open = Some((month, BufWriter::new(file)));
            }
            if let Some((_, file)) = &mut open {
                file.write_all(kept.body.as_bytes())?;
                file.write_all(b"\n")?;
            }
        }
        match open {
            Some((_, mut file)) => file.flush(),
            None => Ok(()),
        }
    }

    /// Removes a session's files; how many there were.
    pub(super) fn remove(&self, session_id: &str) -> Result<u64> {
        let files = self.files_of(session_id)?;
        files.iter().try_for_each(fs::remove_file)?;
        Ok(files.len() as u64)
    }

    /// Removes every month and how far the files were.
    pub(super) fn remove_all(&self) -> Result<()> {
        self.months()?.iter().try_for_each(fs::remove_dir_all)?;
        match fs::remove_file(self.folder().join(POSITION)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Ids are checked before they get here: they hold letters, digits, `-` and `_` only.
fn file_name(session_id: &str) -> String {
    format!("{session_id}.jsonl")
}

fn last_of(path: &Path) -> Result<i64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut reach = TAIL;
    loop {
        let from = length.saturating_sub(reach);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        BufReader::new(&file).read_to_end(&mut tail)?;
        let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
            if from == 0 {
                file.set_len(0)?;
                return Ok(0);
            }
            reach *= 8;
            continue;
        };
        let whole = tail.get(..end).unwrap_or_default();
        let begin = whole.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        if begin.is_none() && from > 0 {
            reach *= 8;
            continue;
        }
        let line = whole.get(begin.unwrap_or_default()..).unwrap_or_default();
        file.set_len(from + end as u64 + 1)?;
        return match serde_json::from_slice::<Line>(line) {
            Ok(line) => Ok(line.seq),
            // Not a line of ours: an old file, which stays as it is.
            Err(_foreign) => Ok(0),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(seq: i64, month: u32) -> Kept {
        let body = format!("{{\"seq\":{seq},\"timestamp\":\"2026-{month:02}-01T00:00:00Z\"}}");
        Kept { seq, body }
    }

    #[test]
    fn lines_go_to_their_month_and_a_torn_one_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path().to_owned());
        assert_eq!((files.last_number("s").unwrap(), files.count("s").unwrap()), (0, 0));
        files.append("s", &[kept(1, 1), kept(2, 1), kept(3, 2)]).unwrap();
        assert_eq!((files.last_number("s").unwrap(), files.count("s").unwrap()), (3, 2));
        let path = folder.path().join("history/202602/s.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"seq\":4,\"times").unwrap();
        assert_eq!(files.last_number("s").unwrap(), 3);
        files.append("s", &[kept(4, 2)]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        fs::write(&path, "x".repeat(200_000)).unwrap();
        assert_eq!(files.last_number("s").unwrap(), 2);
        assert_eq!(files.remove("s").unwrap(), 2);
    }

    #[test]
    fn a_long_last_line_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path().to_owned());
        let long = "x".repeat(300_000);
        let body = format!("{{\"seq\":2,\"timestamp\":\"2026-01-01\",\"content\":\"{long}\"}}");
        files.append("s", &[kept(1, 1), Kept { seq: 2, body }]).unwrap();
        assert_eq!(files.last_number("s").unwrap(), 2);
    }

    #[test]
    fn the_position_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path().to_owned());
        assert_eq!(files.read_position().unwrap(), Timestamp::default());
        files.write_position(Timestamp::from_micros(7)).unwrap();
        assert_eq!(files.read_position().unwrap(), Timestamp::from_micros(7));
        files.remove_all().unwrap();
        assert_eq!(files.read_position().unwrap(), Timestamp::default());
    }
}
