//! Compressed streams, known by their first bytes.

use std::io::{self, BufRead, BufReader, Read};

/// The decompressed bytes of a stream: gzip, Zstandard, xz, bzip2, or as they are.
///
/// # Errors
/// Those of reading the first bytes, and of a decoder that cannot be made.
pub fn decompressed<'a>(stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut stream = BufReader::with_capacity(1 << 18, stream);
    let head = stream.fill_buf()?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(stream)?),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(stream))
        }
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(stream)),
        _ => Box::new(stream),
    })
}
