//! A record file back into the stream it was made of.

use super::decode;
use super::record::{FORMAT, FRAME_HEADER_BYTES, MAGIC, MAX_PAYLOAD_BYTES, Tag};
use observer_model::input::Input;
use std::io::{self, BufReader, Read};

/// Why a record could not be replayed (to its end).
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("is no record of gunicorn-observer; make one with `gunicorn-observer record FILE`")]
    Foreign,
    #[error(
        "is a record of format {found}, but this version reads format {FORMAT}; \
         replay it with the version that recorded it"
    )]
    Format { found: u32 },
    #[error(
        "ends in the middle of a frame at byte {offset}: the recorder was cut off; \
         the first {intact} inputs are intact; for a whole one, end \
         `gunicorn-observer record FILE` by SIGINT or SIGTERM and mind the room on its disk"
    )]
    Truncated { offset: u64, intact: u64 },
    #[error(
        "is damaged at byte {offset} ({why}); the first {intact} inputs are intact; \
         copy it again from where it was recorded"
    )]
    Damaged {
        offset: u64,
        intact: u64,
        why: String,
    },
    #[error("could not be read at byte {offset}: {source}; check the disk and the file's rights")]
    Io { offset: u64, source: io::Error },
}

/// The inputs of a record, one after the other; ends after its first error.
pub struct Replay<R: Read> {
    file: BufReader<R>,
    /// Where the next frame begins.
    offset: u64,
    intact: u64,
    payload: Vec<u8>,
    ended: bool,
}

impl<R: Read> Replay<R> {
    /// Begins to replay.
    ///
    /// # Errors
    /// [`ReplayError`] when the file is none of ours, or unreadable.
    pub fn new(file: R) -> Result<Self, ReplayError> {
        let mut file = BufReader::new(file);
        let mut magic = [0; MAGIC.len()];
        let mut format = [0; 4];
        let got = fill(&mut file, &mut magic, 0)?;
        if got < magic.len() || magic != MAGIC {
            return Err(ReplayError::Foreign);
        }
        if fill(&mut file, &mut format, 8)? < format.len() {
            return Err(ReplayError::Truncated {
                offset: 8,
                intact: 0,
            });
        }
        match u32::from_le_bytes(format) {
            FORMAT => {}
            found => return Err(ReplayError::Format { found }),
        }
        Ok(Self {
            file,
            offset: 12,
            intact: 0,
            payload: Vec::new(),
            ended: false,
        })
    }

    fn frame(&mut self) -> Result<Option<Input>, ReplayError> {
        let (offset, intact) = (self.offset, self.intact);
        let mut header = [0; FRAME_HEADER_BYTES];
        match fill(&mut self.file, &mut header, offset)? {
            0 => return Ok(None),
            FRAME_HEADER_BYTES => {}
            _ => return Err(ReplayError::Truncated { offset, intact }),
        }
        let [l0, l1, l2, l3, tag, t0, t1, t2, t3, t4, t5, t6, t7] = header;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let time_ns = u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        let damaged = |why: String| ReplayError::Damaged {
            offset,
            intact,
            why,
        };
        if len > MAX_PAYLOAD_BYTES {
            return Err(damaged(format!("a frame of {len} bytes")));
        }

        self.payload.resize(usize::try_from(len).unwrap_or(0), 0);
        let got = fill(&mut self.file, &mut self.payload, offset)?;
        if got < self.payload.len() {
            return Err(ReplayError::Truncated { offset, intact });
        }
        let input = match tag {
            t if t == Tag::Kernel as u8 => decode::input(&self.payload),
            t if t == Tag::Fact as u8 => {
                let fact = serde_json::from_slice(&self.payload)
                    .map_err(|error| damaged(format!("a fact that cannot be read: {error}")))?;
                Input::Fact { time_ns, fact }
            }
            t if t == Tag::Tick as u8 => Input::Tick { now_ns: time_ns },
            other => return Err(damaged(format!("a frame of unknown kind {other}"))),
        };
        self.offset += FRAME_HEADER_BYTES as u64 + u64::from(len);
        self.intact += 1;
        Ok(Some(input))
    }
}

impl<R: Read> Iterator for Replay<R> {
    type Item = Result<Input, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.frame().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Fills `buf` as far as the file goes; how far that was.
fn fill(file: &mut impl Read, buf: &mut [u8], offset: u64) -> Result<usize, ReplayError> {
    let mut filled = 0;
    while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(ReplayError::Io { offset, source }),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::record::Recorder;
    use crate::ingest::test_records;
    use observer_model::fact::{Fact, Usage};

    fn sample_file() -> Vec<u8> {
        let mut file = Vec::new();
        let mut recorder = Recorder::new(&mut file).unwrap();
        recorder.kernel(&test_records::fork(5, 1, 2)).unwrap();
        recorder.kernel(&[1, 2, 3]).unwrap();
        let usage = Usage {
            cpu_seconds: 0.1 + 0.2,
            resident_bytes: 7,
        };
        recorder.fact(6, &Fact::Usage(usage)).unwrap();
        recorder.tick(7).unwrap();
        recorder.flush().unwrap();
        drop(recorder);
        file
    }

    fn replay(file: &[u8]) -> Vec<Result<Input, ReplayError>> {
        match Replay::new(file) {
            Ok(replay) => replay.collect(),
            Err(error) => vec![Err(error)],
        }
    }

    #[test]
    fn what_was_recorded_comes_back() {
        let inputs: Vec<_> = replay(&sample_file())
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let usage = Usage {
            cpu_seconds: 0.1 + 0.2,
            resident_bytes: 7,
        };
        let expected = [
            decode::input(&test_records::fork(5, 1, 2)),
            Input::Malformed("short"),
            Input::Fact {
                time_ns: 6,
                fact: Fact::Usage(usage),
            },
            Input::Tick { now_ns: 7 },
        ];
        assert_eq!(inputs, expected);
    }

    #[test]
    fn a_file_cut_anywhere_says_where_and_keeps_what_came_before() {
        let file = sample_file();
        let starts = [12, 12 + 37, 12 + 37 + 16];
        for cut in 0..file.len() {
            let mut inputs = replay(&file[..cut]);
            let last = inputs.pop();
            match last {
                Some(Err(ReplayError::Foreign)) => assert!(cut < 8),
                Some(Err(ReplayError::Truncated { intact, .. })) => {
                    assert_eq!(intact, inputs.len() as u64);
                }
                // Cut between two frames: nothing to see.
                Some(Ok(_)) => assert!(starts.contains(&cut) || cut == file.len() - 13),
                None => assert_eq!(cut, 12),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn errors_are_one_line_and_name_the_cure() {
        let cut = sample_file();
        let mut newer = sample_file();
        newer[8] = 9;
        let mut damaged = sample_file();
        damaged[16] = 77;
        let mut huge = sample_file();
        huge[15] = 0xff;
        let record = "`gunicorn-observer record FILE`";
        let copy = "copy it again from where it was recorded";
        let cases: [(&[u8], &str, &str); 6] = [
            (
                b"PK\x03\x04 and more of it",
                "is no record of gunicorn-observer",
                record,
            ),
            (
                &newer,
                "format 9",
                "replay it with the version that recorded it",
            ),
            (&cut[..10], "in the middle of a frame at byte 8", record),
            (&cut[..20], "in the middle of a frame at byte 12", record),
            (
                &damaged,
                "damaged at byte 12 (a frame of unknown kind 77)",
                copy,
            ),
            (&huge, "damaged at byte 12", copy),
        ];
        for (file, what, cure) in cases {
            let error = replay(file).pop().unwrap().unwrap_err().to_string();
            let (told, told_cure) = error.rsplit_once("; ").unwrap();
            assert!(told.contains(what) && !error.contains('\n'), "{error}");
            assert!(told_cure.contains(cure), "{error}");
        }
        let source = io::Error::other("broken");
        let error = ReplayError::Io { offset: 1, source }.to_string();
        assert!(error.ends_with("check the disk and the file's rights"));
    }
}
