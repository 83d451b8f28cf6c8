//! Walks, permissions, mounts.

use super::support::*;
use crate::errno::Errno;
use crate::fs::memfs::{MemFs, Options};
use crate::kernel::cred::Cred;
use crate::vfs::inode::Create;
use crate::vfs::open::{OpenHow, open};
use crate::vfs::walk::{FOLLOW, Walker};
use crate::vfs::{Ctx, Mount, Path, attr, namei};
use linux_raw_sys::general as c;
use std::sync::Arc;

#[test]
fn links_have_a_limit() {
    let fs = memory();
    let ctx = superuser(&fs);
    symlink(&ctx, "/loop", "/loop").expect("symlink");
    assert_eq!(ctx.lookup(b"/loop").map(drop), Err(Errno::ELOOP));
    write_file(&ctx, "/l0", b"end");
    for n in 1..=41 {
        symlink(&ctx, &format!("l{}", n - 1), &format!("/l{n}")).expect("symlink");
    }
    assert_eq!(read_file(&ctx, "/l40").expect("40 links"), b"end");
    assert_eq!(read_file(&ctx, "/l41").map(drop), Err(Errno::ELOOP));
}

#[test]
fn names_and_paths_have_a_limit() {
    let fs = memory();
    let ctx = superuser(&fs);
    let long = "x".repeat(255);
    mkdir(&ctx, &long).expect("255 bytes");
    assert_eq!(mkdir(&ctx, &"x".repeat(256)).map(drop), Err(Errno::ENAMETOOLONG));
    assert_eq!(ctx.lookup("y".repeat(256).as_bytes()).map(drop), Err(Errno::ENAMETOOLONG));
    let deep = "/".repeat(4096);
    assert_eq!(ctx.lookup(deep.as_bytes()).map(drop), Err(Errno::ENAMETOOLONG));
    ctx.lookup(&deep.as_bytes()[..4095]).expect("the root");
    assert_eq!(ctx.lookup(b"").map(drop), Err(Errno::ENOENT));
}

#[test]
fn deep_trees_do_not_use_up_the_stack() {
    let fs = memory();
    let ctx = superuser(&fs);
    for _ in 0..20_000 {
        fs.set_cwd(mkdir(&ctx, "d").expect("mkdir"));
    }
    let held = fs.cwd();
    fs.set_cwd(fs.root());
    assert!(held.to_bytes(&fs.root()).len() == 40_000);
    drop((held, ctx));
    drop(fs);
}

#[test]
fn scopes_hold() {
    let fs = memory();
    let ctx = superuser(&fs);
    mkdir(&ctx, "/jail").expect("mkdir");
    mkdir(&ctx, "/jail/in").expect("mkdir");
    write_file(&ctx, "/secret", b"s");
    write_file(&ctx, "/jail/in/file", b"f");
    symlink(&ctx, "../../secret", "/jail/in/out").expect("symlink");
    symlink(&ctx, "/in/file", "/jail/absolute").expect("symlink");
    let jail = ctx.lookup(b"/jail").expect("jail");
    let go = |path: &str, resolve: u32| {
        let how = OpenHow { flags: c::O_RDONLY, mode: 0, resolve: resolve.into() };
        open(&ctx, jail.clone(), path.as_bytes(), &how).map(drop)
    };
    assert_eq!(go("in/file", c::RESOLVE_BENEATH), Ok(()));
    assert_eq!(go("in/../in/file", c::RESOLVE_BENEATH), Ok(()));
    assert_eq!(go("../secret", c::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(go("in/out", c::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(go("absolute", c::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(go("/in/file", c::RESOLVE_BENEATH), Err(Errno::EXDEV));
    assert_eq!(go("absolute", c::RESOLVE_IN_ROOT), Ok(()));
    assert_eq!(go("/../../in/file", c::RESOLVE_IN_ROOT), Ok(()));
    assert_eq!(go("in/out", c::RESOLVE_IN_ROOT), Err(Errno::ENOENT));
    assert_eq!(go("absolute", c::RESOLVE_NO_SYMLINKS), Err(Errno::ELOOP));
    assert_eq!(go("in/file", c::RESOLVE_NO_SYMLINKS | c::RESOLVE_NO_XDEV), Ok(()));
}

#[test]
fn permissions_count() {
    let fs = memory();
    let root = superuser(&fs);
    let alice = user(&fs, 1000);
    let bob = user(&fs, 1001);
    mkdir(&root, "/tmp").expect("mkdir");
    attr::chmod(&root.cred, &root.lookup(b"/tmp").expect("tmp"), 0o1777).expect("chmod");
    write_file(&alice, "/tmp/a", b"alice");
    assert_eq!(unlink(&bob, "/tmp/a"), Err(Errno::EPERM), "sticky");
    assert_eq!(rename(&bob, "/tmp/a", "/tmp/b", 0), Err(Errno::EPERM));
    let a = alice.lookup(b"/tmp/a").expect("a");
    attr::chmod(&alice.cred, &a, 0o600).expect("chmod");
    assert_eq!(open_path(&bob, "/tmp/a", c::O_RDONLY, 0).map(drop), Err(Errno::EACCES));
    assert_eq!(attr::chmod(&bob.cred, &a, 0o666), Err(Errno::EPERM));
    assert_eq!(attr::chown(&alice.cred, &a, 1001, 1001), Err(Errno::EPERM));
    assert_eq!(attr::access(&bob.cred, &a, 4), Err(Errno::EACCES));
    assert_eq!(mkdir(&alice, "/no").map(drop), Err(Errno::EACCES));
    mkdir(&alice, "/tmp/closed").expect("mkdir");
    write_file(&alice, "/tmp/closed/f", b"");
    attr::chmod(&alice.cred, &alice.lookup(b"/tmp/closed").expect("d"), 0o600).expect("chmod");
    assert_eq!(alice.lookup(b"/tmp/closed/f").map(drop), Err(Errno::EACCES), "search needs x");
    root.lookup(b"/tmp/closed/f").expect("root may");
    assert_eq!(attr::truncate(&bob.cred, &a, 0), Err(Errno::EACCES));
    // What is written by another loses set-user-id.
    attr::chmod(&alice.cred, &a, 0o6777).expect("chmod");
    let file = open_path(&bob, "/tmp/a", c::O_WRONLY, 0).expect("open");
    attr::drop_privileges(&bob.cred, &file).expect("drop");
    assert_eq!(a.inode().attr().mode & 0o7777, 0o777);
}

#[test]
fn set_group_id_directories_hand_their_group_on() {
    let fs = memory();
    let root = superuser(&fs);
    let shared = mkdir(&root, "/shared").expect("mkdir");
    attr::chown(&root.cred, &shared, 0, 77).expect("chown");
    attr::chmod(&root.cred, &shared, 0o2777).expect("chmod");
    let alice = user(&fs, 1000);
    write_file(&alice, "/shared/f", b"");
    assert_eq!(alice.lookup(b"/shared/f").expect("f").inode().attr().gid, 77);
    let sub = mkdir(&alice, "/shared/sub").expect("mkdir");
    assert_eq!(sub.inode().attr().mode & 0o7777, 0o2755);
}

#[test]
fn renames_of_every_kind() {
    let fs = memory();
    let ctx = superuser(&fs);
    write_file(&ctx, "/a", b"a");
    write_file(&ctx, "/b", b"b");
    mkdir(&ctx, "/d").expect("mkdir");
    mkdir(&ctx, "/d/e").expect("mkdir");
    assert_eq!(rename(&ctx, "/a", "/b", c::RENAME_NOREPLACE), Err(Errno::EEXIST));
    rename(&ctx, "/a", "/d", c::RENAME_EXCHANGE).expect("exchange");
    assert_eq!(read_file(&ctx, "/d").expect("read"), b"a");
    assert_eq!(list(&ctx, "/a").expect("list"), ["e"]);
    assert_eq!(ctx.lookup(b"/a/e").expect("e").to_bytes(&ctx.root), b"/a/e");
    assert_eq!(rename(&ctx, "/a", "/a/e/f", 0), Err(Errno::EINVAL));
    assert_eq!(rename(&ctx, "/a/e", "/a", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(rename(&ctx, "/d", "/a", 0), Err(Errno::EISDIR));
    assert_eq!(rename(&ctx, "/a", "/d", 0), Err(Errno::ENOTDIR));
    assert_eq!(rename(&ctx, "/a", "/nothing", c::RENAME_EXCHANGE), Err(Errno::ENOENT));
    let open = open_path(&ctx, "/b", c::O_RDONLY, 0).expect("open");
    rename(&ctx, "/d", "/b", 0).expect("replace");
    let mut buf = [0; 1];
    assert_eq!((open.read_at(0, &mut buf), &buf), (Ok(1), b"b"), "the replaced file lives on");
    assert_eq!(open.path.to_bytes(&ctx.root), b"/b (deleted)");
    assert_eq!(read_file(&ctx, "/b").expect("read"), b"a");
}

fn tmpfs() -> Arc<Mount> {
    let sb = MemFs::tmpfs(&Options { mode: 0o755, ..Options::default() }, "tmpfs").expect("tmpfs");
    let root = sb.root.clone();
    Mount::new(sb, root, b"none", 0)
}

#[test]
fn mounts_hide_and_show() {
    let fs = memory();
    let ctx = superuser(&fs);
    let ns = fs.ns();
    mkdir(&ctx, "/mnt").expect("mkdir");
    write_file(&ctx, "/mnt/below", b"");
    ns.attach(&tmpfs(), &ctx.lookup(b"/mnt").expect("mnt")).expect("attach");
    assert_eq!(list(&ctx, "/mnt").expect("list"), Vec::<String>::new());
    write_file(&ctx, "/mnt/above", b"x");
    assert_eq!(ctx.lookup(b"/mnt/..").expect("up").to_bytes(&ctx.root), b"/");
    assert_eq!(ctx.lookup(b"/mnt/above").expect("file").to_bytes(&ctx.root), b"/mnt/above");
    assert_eq!(link(&ctx, "/mnt/above", "/link"), Err(Errno::EXDEV));
    assert_eq!(rename(&ctx, "/mnt/above", "/moved", 0), Err(Errno::EXDEV));
    assert_eq!(rmdir(&ctx, "/mnt"), Err(Errno::EBUSY));
    mkdir(&ctx, "/bind").expect("mkdir");
    let bind =
        ns.bind(&ctx.lookup(b"/mnt").expect("mnt"), &ctx.lookup(b"/bind").expect("b"), false).expect("bind");
    assert_eq!(read_file(&ctx, "/bind/above").expect("read"), b"x");
    bind.set_flags(c::MS_RDONLY);
    assert_eq!(unlink(&ctx, "/bind/above"), Err(Errno::EROFS));
    assert_eq!(open_path(&ctx, "/bind/above", c::O_WRONLY, 0).map(drop), Err(Errno::EROFS));
    assert_eq!(open_path(&ctx, "/bind/new", c::O_CREAT | c::O_WRONLY, 0).map(drop), Err(Errno::EROFS));
    write_file(&ctx, "/mnt/above", b"through the other mount");
    let mnt = ctx.lookup(b"/mnt").expect("mnt").mnt;
    let held = open_path(&ctx, "/mnt/above", c::O_RDONLY, 0).expect("open");
    assert_eq!(ns.unmount(&mnt, false), Err(Errno::EBUSY), "a file is open");
    drop(held);
    drop(mnt);
    let mnt = ctx.lookup(b"/mnt").expect("mnt").mnt;
    ns.unmount(&mnt, false).expect("unmount");
    assert_eq!(list(&ctx, "/mnt").expect("list"), ["below"]);
    assert_eq!(read_file(&ctx, "/bind/above").expect("read"), b"through the other mount");
}

#[test]
fn pivot_and_namespaces() {
    let fs = memory();
    let ctx = superuser(&fs);
    let ns = fs.ns();
    let new = mkdir(&ctx, "/new").expect("mkdir");
    ns.attach(&tmpfs(), &new).expect("attach");
    mkdir(&ctx, "/new/old").expect("mkdir");
    write_file(&ctx, "/was-here", b"");
    let other = fs.fork();
    other.new_namespace();
    let (root, old) = (ctx.lookup(b"/new").expect("new"), ctx.lookup(b"/new/old").expect("old"));
    assert_eq!(ns.pivot(&ctx.root, &ctx.root, &old), Err(Errno::EBUSY));
    ns.pivot(&ctx.root, &root, &old).expect("pivot");
    fs.set_root(root.clone());
    fs.set_cwd(root);
    let ctx = superuser(&fs);
    assert_eq!(list(&ctx, "/").expect("list"), ["old"]);
    assert_eq!(list(&ctx, "/old").expect("list"), ["new", "was-here"]);
    ctx.lookup(b"/old/../..").expect("up");
    let old = ctx.lookup(b"/old").expect("old").mnt;
    ns.unmount(&old, true).expect("unmount");
    assert_eq!(list(&ctx, "/old").expect("list"), Vec::<String>::new());
    // The other namespace still has the old tree.
    let ctx = superuser(&other);
    assert_eq!(list(&ctx, "/").expect("list"), ["new", "was-here"]);
}

#[test]
fn dot_dot_never_leaves_the_root() {
    let fs = memory();
    let ctx = superuser(&fs);
    mkdir(&ctx, "/jail").expect("mkdir");
    mkdir(&ctx, "/jail/sub").expect("mkdir");
    let jail = ctx.lookup(b"/jail").expect("jail");
    let cred = Cred::root();
    let mut walker = Walker::new(&cred, jail.clone(), 0);
    let at = walker.resolve(jail.clone(), b"../../../sub/../..", FOLLOW).expect("walk");
    assert!(at.same(&jail));
}

#[test]
fn directories_are_read_piece_by_piece() {
    let fs = memory();
    let ctx = superuser(&fs);
    mkdir(&ctx, "/d").expect("mkdir");
    for n in 0..100 {
        write_file(&ctx, &format!("/d/{n}"), b"");
    }
    let dir = open_path(&ctx, "/d", c::O_RDONLY, 0).expect("open");
    let (mut seen, mut pos) = (Vec::new(), 0);
    loop {
        let mut names = Names(Vec::new(), 7);
        dir.ops().readdir(&dir, pos, &mut names).expect("read");
        let Some(last) = names.0.last() else { break };
        pos = last.1;
        // What comes and goes meanwhile neither hides nor doubles the others.
        let gone = names.0[0].0.clone();
        seen.extend(names.0.into_iter().map(|n| n.0));
        if gone.parse::<u32>().is_ok() {
            unlink(&ctx, &format!("/d/{gone}")).expect("unlink");
        }
    }
    seen.retain(|n| n != "." && n != "..");
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), count), (100, 100));
}

#[test]
fn special_files_and_temporary_ones() {
    let fs = memory();
    let ctx = superuser(&fs);
    let make = |path: &str, kind: u32, rdev: u64| {
        namei::make(&ctx, ctx.root.clone(), path.as_bytes(), Create::Node(kind, rdev), 0o666).map(drop)
    };
    make("/null", c::S_IFCHR, crate::fs::dev::NULL).expect("mknod");
    make("/sock", c::S_IFSOCK, 0).expect("mknod");
    make("/disk", c::S_IFBLK, 0x800).expect("mknod");
    write_file(&ctx, "/null", b"gone");
    assert_eq!(read_file(&ctx, "/null").expect("read"), b"");
    assert_eq!(open_path(&ctx, "/sock", c::O_RDONLY, 0).map(drop), Err(Errno::ENXIO));
    assert_eq!(open_path(&ctx, "/disk", c::O_RDONLY, 0).map(drop), Err(Errno::ENXIO));
    let alice: Ctx = user(&fs, 1000);
    let refused = namei::make(&alice, ctx.root.clone(), b"/n", Create::Node(c::S_IFCHR, 5), 0o666).map(drop);
    assert_eq!(refused, Err(Errno::EACCES));
    let temp = open_path(&ctx, "/", c::O_TMPFILE | c::O_RDWR, 0o600).expect("tmpfile");
    assert_eq!(temp.path.inode().stat().expect("stat").nlink, 0);
    let at: Path = temp.path.clone();
    namei::link(&ctx, &at, ctx.root.clone(), b"/kept").expect("link");
    assert_eq!(ctx.lookup(b"/kept").expect("kept").inode().stat().expect("stat").nlink, 1);
    assert_eq!(OpenHow::lenient(c::O_TMPFILE, 0).map(drop), Err(Errno::EINVAL));
    assert_eq!(OpenHow::lenient(c::O_CREAT | c::O_DIRECTORY, 0).map(drop), Err(Errno::EINVAL));
}
