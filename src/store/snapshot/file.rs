//! The bytes of the file, and the sum over them.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};

use ring::digest;

use super::Unusable;

/// A frame is about 16 KiB, and a counter has a few at most.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// A file that is being written.
pub(super) struct Outgoing<'f> {
    file: BufWriter<&'f mut File>,
    sum: digest::Context,
}

/// A file that is being read. Nothing of it counts before [`Incoming::finish`] has found it whole.
pub(super) struct Incoming {
    file: BufReader<File>,
    sum: digest::Context,
    frame: Vec<u8>,
}

impl<'f> Outgoing<'f> {
    pub(super) fn new(file: &'f mut File) -> Outgoing<'f> {
        Outgoing { file: BufWriter::with_capacity(1 << 16, file), sum: digest::Context::new(&digest::SHA256) }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.file.write_all(bytes)
    }

    pub(super) fn frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.put(&length.to_le_bytes())?;
        self.put(bytes)
    }

    /// Ends the frames and adds the sum.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.frame(&[])?;
        self.file.write_all(self.sum.finish().as_ref())?;
        self.file.flush()
    }
}

impl Incoming {
    pub(super) fn new(file: File) -> Incoming {
        Incoming {
            file: BufReader::with_capacity(1 << 16, file),
            sum: digest::Context::new(&digest::SHA256),
            frame: Vec::new(),
        }
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Unusable> {
        let mut bytes = [0; N];
        read_whole(&mut self.file, &mut bytes)?;
        self.sum.update(&bytes);
        Ok(bytes)
    }

    /// The next frame; none after the last.
    pub(super) fn frame(&mut self) -> Result<Option<&[u8]>, Unusable> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        if length == 0 {
            return Ok(None);
        }
        if length > FRAME_BYTES_MAX {
            return Err(Unusable::Damaged);
        }
        self.frame.resize(length, 0);
        read_whole(&mut self.file, &mut self.frame)?;
        self.sum.update(&self.frame);
        Ok(Some(&self.frame))
    }

    /// Whether all was read, and as it was written.
    pub(super) fn finish(mut self) -> Result<(), Unusable> {
        let mut sum = [0; digest::SHA256_OUTPUT_LEN];
        read_whole(&mut self.file, &mut sum)?;
        let is_at_end = self.file.read(&mut [0])? == 0;
        if self.sum.finish().as_ref() == sum && is_at_end { Ok(()) } else { Err(Unusable::Damaged) }
    }
}

fn read_whole(file: &mut BufReader<File>, bytes: &mut [u8]) -> Result<(), Unusable> {
    file.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Unusable::Torn,
        _ => Unusable::Io(error),
    })
}
