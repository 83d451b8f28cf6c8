//! The sentry image as the VMM sees it: flat bytes that begin with an [`ImageHeader`].

use abi::boot::{IMAGE_MAGIC, ImageHeader};
use abi::{HOST_INTERFACE_VERSION, PAGE_SIZE};
use zerocopy::FromBytes;

use crate::Error;

/// A checked sentry image.
pub struct Image<'a> {
    /// Its initialised bytes.
    pub bytes: &'a [u8],
    /// Its head.
    pub header: ImageHeader,
    base: u64,
}

impl<'a> Image<'a> {
    /// Checks the head of a flat image that was linked at `base`.
    pub fn new(bytes: &'a [u8], base: u64) -> Result<Self, Error> {
        let (header, _) = ImageHeader::read_from_prefix(bytes).map_err(|_| Error::Image {
            reason: format!("it has {} bytes, too few for a header", bytes.len()),
        })?;
        let header = Self::check_header(&header, base)?;
        if bytes.len() as u64 > header.end - base {
            return Err(Error::Image { reason: format!("its header names too small a size: {header:x?}") });
        }
        Ok(Self { bytes, header, base })
    }

    /// Checks the head of an image that was linked at `base`.
    pub fn check_header(header: &ImageHeader, base: u64) -> Result<ImageHeader, Error> {
        let refuse = |reason: String| Error::Image { reason };
        if header.magic != IMAGE_MAGIC {
            return Err(refuse("it does not begin with the magic number of a sentry image".into()));
        }
        if header.version != u64::from(HOST_INTERFACE_VERSION) {
            return Err(refuse(format!(
                "it speaks version {} of the host interface, this runtime version {HOST_INTERFACE_VERSION}",
                header.version
            )));
        }
        let inside = |address: u64| (base..header.end).contains(&address);
        let size = header.end.wrapping_sub(base);
        let fits = size.is_multiple_of(PAGE_SIZE) && size < 1 << 30;
        let parts = [base, header.rodata, header.data, header.end];
        let ordered = parts.is_sorted() && parts.iter().all(|part| part.is_multiple_of(PAGE_SIZE));
        if !fits
            || !ordered
            || !(base..header.rodata).contains(&header.start)
            || ![header.start, header.syscall_pvm, header.syscall_hw].into_iter().all(inside)
        {
            return Err(refuse(format!("its header names addresses outside it: {header:x?}")));
        }
        Ok(*header)
    }

    /// Bytes that it takes in memory, `.bss` included.
    pub fn size(&self) -> u64 {
        self.header.end - self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::boot::KVM_IMAGE_BASE;
    use zerocopy::IntoBytes;

    fn header() -> ImageHeader {
        ImageHeader {
            magic: IMAGE_MAGIC,
            version: u64::from(HOST_INTERFACE_VERSION),
            start: KVM_IMAGE_BASE + 64,
            syscall_pvm: KVM_IMAGE_BASE + 64,
            syscall_hw: KVM_IMAGE_BASE + 64,
            end: KVM_IMAGE_BASE + PAGE_SIZE,
            rodata: KVM_IMAGE_BASE + PAGE_SIZE,
            data: KVM_IMAGE_BASE + PAGE_SIZE,
        }
    }

    #[test]
    fn accepts_a_good_header_only() {
        assert!(Image::new(header().as_bytes(), KVM_IMAGE_BASE).is_ok());
        assert!(Image::new(&header().as_bytes()[..40], KVM_IMAGE_BASE).is_err());
        for change in [
            |h: &mut ImageHeader| h.magic = 1,
            |h: &mut ImageHeader| h.version += 1,
            |h: &mut ImageHeader| h.start = 0,
            |h: &mut ImageHeader| h.end = 0,
            |h: &mut ImageHeader| h.end += 1,
            |h: &mut ImageHeader| h.rodata = 0,
            |h: &mut ImageHeader| h.data += PAGE_SIZE,
        ] {
            let mut bad = header();
            change(&mut bad);
            assert!(Image::new(bad.as_bytes(), KVM_IMAGE_BASE).is_err());
        }
    }
}
