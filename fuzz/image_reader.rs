//! What is done with an image of any bytes. A test of `rofs` does the same with the saved corpus.

use rofs::progress::Silent;
use rofs::{Extent, Image, Nid, Verify};
use std::ops::ControlFlow;

/// Opens and reads all that can be reached, and what cannot be too.
pub fn exercise(data: &[u8]) {
    let _ = Image::open(data, Verify::Checksum);
    // With a wrong checksum too: else nothing but that is tried.
    let Ok(image) = Image::open(data, Verify::No) else { return };
    let _ = rofs::verify::verify(&image, &Silent);
    let mut buffer = vec![0; 5000];
    // Every slot as an inode, whether a directory names it or not.
    for slot in (0..data.len() as u64 / 32).take(2000) {
        let Ok(inode) = image.inode(Nid(slot)) else { continue };
        for offset in [0, 1, 4095, 4096, inode.size.saturating_sub(1), inode.size, u64::MAX] {
            if let Ok(Extent::Data { image_offset, len }) = image.map(&inode, offset) {
                assert!(image_offset + len <= data.len() as u64 && offset + len <= inode.size);
            }
            if let Ok(count) = image.read(&inode, offset, &mut buffer) {
                assert!(count <= buffer.len());
            }
        }
        let _ = image.read_link(&inode, &mut buffer[..100]);
        let _ = image.lookup(&inode, b"name");
        let _ = image.lookup(&inode, &[0xff; 255]);
        let mut entries = 0u64;
        let _ = image.read_dir(&inode, slot.wrapping_mul(77), |name, _, _, _| {
            assert!(!name.is_empty() && name.len() <= 255);
            entries += 1;
            ControlFlow::Continue(())
        });
        assert!(entries <= data.len() as u64);
        let _ = image.list_xattrs(&inode, &mut |_, _| ControlFlow::Continue(()));
        let _ = image.xattr(&inode, b"user.one", &mut |_| {});
    }
}
