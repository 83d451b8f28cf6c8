//! The root of a container: a lower directory of the host under a file system in memory.

use super::support::*;
use crate::errno::Errno;
use crate::fs::hostfs::HostLower;
use crate::fs::memfs::{MemFs, Options};
use crate::host::mock;
use crate::vfs::inode::same_inode;
use crate::vfs::{Ctx, FsState, Mount, MountNs, attr};
use linux_raw_sys::general as c;
use std::sync::Arc;

fn tree() -> (TempDir, Arc<FsState>, Ctx) {
    let dir = TempDir::new();
    let d = &dir.0;
    std::fs::create_dir_all(d.join("usr/bin")).expect("mkdir");
    std::fs::create_dir_all(d.join("etc")).expect("mkdir");
    std::fs::write(d.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").expect("write");
    std::fs::write(d.join("usr/bin/prog"), "#!/bin/sh\n").expect("write");
    std::fs::hard_link(d.join("usr/bin/prog"), d.join("usr/bin/other")).expect("link");
    std::os::unix::fs::symlink("usr/bin", d.join("bin")).expect("symlink");
    for n in 0..300 {
        std::fs::write(d.join(format!("usr/bin/tool{n}")), format!("{n}")).expect("write");
    }
    let root = mock::donate(d.clone());
    let sb = MemFs::overlay(&Options::default(), Arc::new(HostLower::new(root))).expect("overlay");
    let top = sb.root.clone();
    let fs = FsState::new(MountNs::new(Mount::new(sb, top, b"overlay", 0)));
    let ctx = superuser(&fs);
    (dir, fs, ctx)
}

#[test]
fn lower_names_can_be_removed_and_made_again() {
    let (dir, _fs, ctx) = tree();
    assert_eq!(read_file(&ctx, "/bin/tool7").expect("read"), b"7");
    unlink(&ctx, "/usr/bin/tool7").expect("unlink");
    assert_eq!(read_file(&ctx, "/bin/tool7").map(drop), Err(Errno::ENOENT));
    assert!(!list(&ctx, "/usr/bin").expect("list").contains(&"tool7".to_string()));
    assert_eq!(list(&ctx, "/usr/bin").expect("list").len(), 301);
    write_file(&ctx, "/usr/bin/tool7", b"new");
    assert_eq!(read_file(&ctx, "/bin/tool7").expect("read"), b"new");
    assert_eq!(std::fs::read(dir.0.join("usr/bin/tool7")).expect("read"), b"7");
    assert_eq!(rmdir(&ctx, "/usr/bin"), Err(Errno::ENOTEMPTY));
}

#[test]
fn a_removed_name_stays_hidden_before_the_directory_is_read() {
    let (_dir, _fs, ctx) = tree();
    unlink(&ctx, "/etc/passwd").expect("unlink");
    assert_eq!(read_file(&ctx, "/etc/passwd").map(drop), Err(Errno::ENOENT));
    assert_eq!(list(&ctx, "/etc").expect("list"), Vec::<String>::new());
    assert_eq!(read_file(&ctx, "/etc/passwd").map(drop), Err(Errno::ENOENT));
    rmdir(&ctx, "/etc").expect("rmdir");
    mkdir(&ctx, "/etc").expect("mkdir");
    assert_eq!(list(&ctx, "/etc").expect("list"), Vec::<String>::new(), "a new directory is opaque");
}

#[test]
fn directories_of_the_lower_tree_can_be_moved() {
    let (_dir, _fs, ctx) = tree();
    rename(&ctx, "/usr", "/opt", 0).expect("rename");
    assert_eq!(read_file(&ctx, "/opt/bin/tool3").expect("read"), b"3");
    assert_eq!(read_file(&ctx, "/usr/bin/tool3").map(drop), Err(Errno::ENOENT));
    assert_eq!(read_file(&ctx, "/bin/tool3").map(drop), Err(Errno::ENOENT), "the link still says usr/bin");
}

#[test]
fn hard_links_stay_one_file() {
    let (_dir, _fs, ctx) = tree();
    let open = open_path(&ctx, "/usr/bin/prog", c::O_RDONLY, 0).expect("open");
    write_file(&ctx, "/usr/bin/other", b"written through the other name");
    assert_eq!(read_file(&ctx, "/usr/bin/prog").expect("read"), b"written through the other name");
    let mut buf = [0; 7];
    assert_eq!(open.read_at(0, &mut buf), Ok(7));
    assert_eq!(&buf, b"written", "an open description sees it too");
    let a = ctx.lookup(b"/usr/bin/prog").expect("lookup");
    let b = ctx.lookup(b"/usr/bin/other").expect("lookup");
    assert!(same_inode(a.inode(), b.inode()));
    attr::chmod(&ctx.cred, &a, 0o700).expect("chmod");
    assert_eq!(b.inode().stat().expect("stat").mode & 0o777, 0o700);
    unlink(&ctx, "/usr/bin/prog").expect("unlink");
    assert_eq!(b.inode().stat().expect("stat").nlink, 1);
}

#[test]
fn the_second_look_asks_nobody() {
    let (_dir, _fs, ctx) = tree();
    let look = || {
        for n in 0..20 {
            assert_eq!(read_file(&ctx, &format!("/bin/tool{n}")).expect("read"), format!("{n}").as_bytes());
            assert_eq!(ctx.lookup(format!("/usr/bin/missing{n}").as_bytes()).map(drop), Err(Errno::ENOENT));
        }
        assert_eq!(list(&ctx, "/usr/bin").expect("list").len(), 302);
    };
    look();
    // Other tests make host calls too, so the count is taken on a quiet moment or the test says nothing.
    for _ in 0..50 {
        let before = mock::calls();
        look();
        if mock::calls() == before {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("each look made host calls");
}

#[test]
fn attributes_and_xattrs_are_kept_above() {
    let (_dir, _fs, ctx) = tree();
    let at = ctx.lookup(b"/etc/passwd").expect("lookup");
    attr::chown(&ctx.cred, &at, 12, 34).expect("chown");
    attr::utimens(&ctx.cred, &at, None, Some(Some(crate::vfs::inode::Time { sec: 5, nsec: 6 })))
        .expect("utimens");
    let stat = at.inode().stat().expect("stat");
    assert_eq!((stat.uid, stat.gid, stat.mtime.sec, stat.mtime.nsec), (12, 34, 5, 6));
    let inode = at.inode();
    assert_eq!(inode.get_xattr(b"user.a"), Err(Errno::ENODATA));
    inode.set_xattr(b"user.a", b"1", 0).expect("set");
    assert_eq!(inode.set_xattr(b"user.a", b"2", c::XATTR_CREATE), Err(Errno::EEXIST));
    assert_eq!(inode.set_xattr(b"user.b", b"2", c::XATTR_REPLACE), Err(Errno::ENODATA));
    assert_eq!(inode.get_xattr(b"user.a").expect("get"), b"1");
    assert_eq!(inode.list_xattr().expect("list"), b"user.a\0");
    inode.remove_xattr(b"user.a").expect("remove");
    assert_eq!(inode.remove_xattr(b"user.a"), Err(Errno::ENODATA));
    assert_eq!(inode.set_xattr(b"user.big", &vec![0; 300 << 10], 0), Err(Errno::ENOSPC));
}
