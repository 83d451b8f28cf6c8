//! The root of a container, its mounts and its standard streams.

mod devices;

use super::inode::{Create, SuperBlock};
use super::mount::{Mount, MountNs};
use super::namei;
use super::path::Path;
use super::state::{Ctx, FsState};
use super::{FdTable, OpenFile};
use crate::errno::{Errno, Result};
use crate::fs::memfs::{MemFs, Options};
use crate::fs::{self, bind, cgroup, dev, hostfs::HostLower, rofs::ImageLower, stream, tty};
use crate::host::streams;
use crate::kernel::cred::Cred;
use abi::spec::{ContainerSpec, MountSource, MountSpec, ProcessSpec, StreamKind, StreamSpec};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;

/// Descriptors that --preserve-fds may add, and the standard ones.
const MAX_STREAMS: u64 = 4096;

/// What the options of a mount say about the mount itself.
fn mount_flags(mount: &MountSpec) -> u32 {
    let mut flags = c::MS_RELATIME;
    if mount.readonly {
        flags |= c::MS_RDONLY;
    }
    for option in &mount.options {
        let (set, clear) = match option.as_str() {
            "ro" => (c::MS_RDONLY, 0),
            "rw" => (0, if mount.readonly { 0 } else { c::MS_RDONLY }),
            "nosuid" => (c::MS_NOSUID, 0),
            "suid" => (0, c::MS_NOSUID),
            "nodev" => (c::MS_NODEV, 0),
            "dev" => (0, c::MS_NODEV),
            "noexec" => (c::MS_NOEXEC, 0),
            "exec" => (0, c::MS_NOEXEC),
            "noatime" => (c::MS_NOATIME, c::MS_RELATIME),
            "nodiratime" => (c::MS_NODIRATIME, 0),
            "relatime" => (c::MS_RELATIME, c::MS_NOATIME),
            "strictatime" => (0, c::MS_NOATIME | c::MS_RELATIME),
            "nosymfollow" => (c::MS_NOSYMFOLLOW, 0),
            _ => (0, 0),
        };
        flags = (flags & !clear) | set;
    }
    flags
}

fn make_fs(mount: &MountSpec) -> Result<Arc<SuperBlock>> {
    let options = mount.options.join(",");
    // The upper part of a root may fill the memory, as a disk would.
    let limits = Options { size: crate::mm::frames::usage().1 as u64 * abi::PAGE_SIZE, ..Options::default() };
    match &mount.source {
        MountSource::Overlay { root } => MemFs::overlay(&limits, Arc::new(HostLower::new(*root))),
        MountSource::Image { image } => MemFs::overlay(&limits, Arc::new(ImageLower::new(*image)?)),
        MountSource::Bind { root, .. } => bind::new(*root),
        MountSource::Internal { fstype } => fs::make(fstype.as_bytes(), options.as_bytes()),
    }
}

fn source_name(mount: &MountSpec) -> String {
    match &mount.source {
        MountSource::Overlay { .. } => String::from("overlay"),
        MountSource::Image { .. } => String::from("erofs"),
        MountSource::Bind { .. } => String::from("host"),
        MountSource::Internal { fstype } => fstype.clone(),
    }
}

/// Finds a place in the container; what is missing of it is made.
fn ensure(ctx: &Ctx, path: &[u8], dir: bool) -> Result<Path> {
    match ctx.lookup(path) {
        Err(Errno::ENOENT) => {}
        found => return found,
    }
    let mut prefix: Vec<u8> = Vec::new();
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
    for (n, part) in parts.iter().enumerate() {
        prefix.push(b'/');
        prefix.extend_from_slice(part);
        if ctx.lookup(&prefix).is_ok() {
            continue;
        }
        let last = n + 1 == parts.len();
        let what = if last && !dir { Create::File } else { Create::Dir };
        match namei::make(ctx, ctx.root.clone(), &prefix, what, 0o755) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(e),
        }
    }
    ctx.lookup(path)
}

/// Mounts control groups of version 1 the usual way: a directory of links and, for each hierarchy, a mount.
fn add_cgroups(ctx: &Ctx, ns: &MountNs, spec: &MountSpec) -> Result<()> {
    cgroup::use_version_1();
    let internal = |fstype: &str| MountSource::Internal { fstype: fstype.into() };
    let mut options: Vec<String> = spec.options.iter().filter(|o| *o != "ro").cloned().collect();
    let mut top = MountSpec { source: internal("tmpfs"), ..spec.clone() };
    top.options = options.clone();
    top.options.push("mode=755".into());
    add_mount(ctx, ns, &top)?;
    for (name, controllers) in cgroup::HIERARCHIES {
        let mut group = MountSpec { source: internal("cgroup"), ..spec.clone() };
        group.destination = format!("{}/{name}", spec.destination);
        options.push(controllers.join(","));
        group.options = options.clone();
        options.pop();
        let at = ensure(ctx, group.destination.as_bytes(), true)?;
        let sb = make_fs(&group)?;
        let root = sb.root.clone();
        ns.attach(&Mount::new(sb, root, b"cgroup", mount_flags(&group)), &at)?;
        for controller in controllers.iter().filter(|controller| **controller != name) {
            let link = format!("{}/{controller}", spec.destination);
            namei::make(ctx, ctx.root.clone(), link.as_bytes(), Create::Symlink(name.as_bytes()), 0o777)?;
        }
    }
    Ok(())
}

fn add_mount(ctx: &Ctx, ns: &MountNs, spec: &MountSpec) -> Result<()> {
    let sb = make_fs(spec)?;
    let root = sb.root.clone();
    let at = ensure(ctx, spec.destination.as_bytes(), root.is_dir())?;
    let mount = Mount::new(sb, root, source_name(spec).as_bytes(), mount_flags(spec));
    ns.attach(&mount, &at)
}

/// Hides a path: a file behind /dev/null, a directory behind an empty one.
fn mask(ctx: &Ctx, ns: &MountNs, path: &str) -> Result<()> {
    let at = match ctx.lookup(path.as_bytes()) {
        Ok(at) => at,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        Err(e) => return Err(e),
    };
    if at.dentry.is_dir() {
        let sb = MemFs::tmpfs(&Options { size: 0, mode: 0o755, ..Options::default() }, "tmpfs")?;
        let root = sb.root.clone();
        return ns.attach(&Mount::new(sb, root, b"tmpfs", c::MS_RDONLY | c::MS_RELATIME), &at);
    }
    let null = ctx.lookup(b"/dev/null")?;
    ns.bind(&null, &at, false).map(drop)
}

fn make_readonly(ctx: &Ctx, ns: &MountNs, path: &str) -> Result<()> {
    let at = match ctx.lookup(path.as_bytes()) {
        Ok(at) => at,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        Err(e) => return Err(e),
    };
    let mount = ns.bind(&at, &at, true)?;
    mount.set_flags(mount.flags() | c::MS_RDONLY);
    Ok(())
}

/// Makes the mounts of a container and returns the state that its first process begins with.
///
/// # Errors
/// What the host says of the donated directories, ENODEV for a file system that there is not, EINVAL for wrong options;
/// with what was being made.
pub fn build_root(spec: &ContainerSpec) -> core::result::Result<Arc<FsState>, (Errno, String)> {
    let what = |what: String| move |e: Errno| (e, what);
    let mounting = |mount: &MountSpec| {
        what(format!("error mounting {:?} to rootfs at {:?}", source_name(mount), mount.destination))
    };
    let sb = make_fs(&spec.root).map_err(mounting(&spec.root))?;
    let root_dentry = sb.root.clone();
    let flags = mount_flags(&spec.root);
    let root = Mount::new(sb, root_dentry, source_name(&spec.root).as_bytes(), flags & !c::MS_RDONLY);
    let ns = MountNs::new(root.clone());
    let state = FsState::new(ns.clone());
    state.set_umask(0);
    let ctx = Ctx::new(Arc::new(Cred::root()), state.clone());
    for mount in &spec.mounts {
        // Mounts are made writable first, so that places for others can be made in them.
        let mut early = mount.clone();
        early.readonly = false;
        early.options.retain(|o| o != "ro");
        let added = match &mount.source {
            MountSource::Internal { fstype } if fstype == "cgroup" => add_cgroups(&ctx, &ns, &early),
            _ => add_mount(&ctx, &ns, &early),
        };
        added.map_err(mounting(mount))?;
    }
    // As runc has it: a directory of the host has the devices that it has.
    if !spec.mounts.iter().any(devices::is_foreign_dev) {
        devices::populate(&ctx, &spec.devices)?;
    }
    if spec.process.terminal {
        ensure(&ctx, b"/dev/console", false).map_err(what("making /dev/console".into()))?;
    }
    for mount in &spec.mounts {
        let flags = mount_flags(mount);
        if flags & c::MS_RDONLY != 0 {
            let at = ctx.lookup(mount.destination.as_bytes()).map_err(mounting(mount))?;
            at.mnt.set_flags(flags);
            if matches!(&mount.source, MountSource::Internal { fstype } if fstype == "cgroup") {
                for (name, _) in cgroup::HIERARCHIES {
                    let path = format!("{}/{name}", mount.destination);
                    ctx.lookup(path.as_bytes()).map_err(mounting(mount))?.mnt.set_flags(flags);
                }
            }
        }
    }
    for path in &spec.readonly_paths {
        make_readonly(&ctx, &ns, path).map_err(what(format!("making {path:?} read-only")))?;
    }
    for path in &spec.masked_paths {
        mask(&ctx, &ns, path).map_err(what(format!("masking {path:?}")))?;
    }
    root.set_flags(flags);
    for (name, value) in &spec.sysctl {
        set_sysctl(&ctx, name, value).map_err(what(format!("setting sysctl {name:?} to {value:?}")))?;
    }
    state.set_umask(0o022);
    Ok(state)
}

/// Applies a sysctl setting; one that there is not is refused.
fn set_sysctl(ctx: &Ctx, name: &str, value: &str) -> Result<()> {
    fs::proc::set_sysctl(ctx, name, value)
}

/// The last part of a path to the console's slave, for a container with a terminal.
fn open_console(spec: &ProcessSpec) -> Result<(Arc<tty::Tty>, Arc<OpenFile>)> {
    let stream = spec.streams.first().map_or(0, |s| s.stream);
    let (rows, cols) = spec.console_size;
    let tty = tty::Tty::new_console(stream, rows, cols, spec.uid);
    let inode = fs::devpts::slave_inode(&tty);
    let name = format!("/dev/pts/{}", tty.index);
    let dentry = super::dentry::Dentry::anonymous(inode, name.as_bytes());
    let path = Path { mnt: super::anon::mount(), dentry };
    let slave = tty::open_slave(&tty).inspect_err(|_| tty::release(&tty))?;
    let file = OpenFile::new(path, slave, c::O_RDWR);
    Ok((tty, file))
}

/// Installs the standard streams of a process in its table: descriptors 0 to 2, then further ones. Returns its
/// terminal, where it has one. Where that fails, all of them are closed once the table is gone.
///
/// # Errors
/// ENOMEM; EMFILE for too many.
pub fn open_streams(spec: &ProcessSpec, table: &FdTable) -> Result<Option<Arc<tty::Tty>>> {
    stream::init();
    if !spec.terminal {
        return install_streams(&spec.streams, table).map(|()| None);
    }
    let further = spec.streams.get(1..).unwrap_or_default();
    let (tty, console) = open_console(spec).inspect_err(|_| close_streams(further))?;
    let installed = (0..3).try_for_each(|_| table.install(console.clone(), false, MAX_STREAMS).map(drop));
    let installed = match installed {
        Ok(()) => install_streams(further, table),
        Err(e) => {
            close_streams(further);
            Err(e)
        }
    };
    installed.inspect_err(|_| tty::release(&tty))?;
    Ok(Some(tty))
}

/// Opens streams in a table. Where one cannot be installed, it and those behind it are closed; those before it are
/// the table's.
fn install_streams(list: &[StreamSpec], table: &FdTable) -> Result<()> {
    for (n, stream) in list.iter().enumerate() {
        let file = match stream.kind {
            // The host's /dev/null is as good as the container's own, and cheaper.
            StreamKind::Device if stream::is_null(stream) => {
                streams::close(stream.stream);
                dev::null_file(stream.readable, stream.writable)
            }
            _ => stream::open(stream),
        };
        // One that is not installed closes with the description.
        table
            .install(file, false, MAX_STREAMS)
            .inspect_err(|_| close_streams(list.get(n + 1..).unwrap_or_default()))?;
    }
    Ok(())
}

fn close_streams(list: &[StreamSpec]) {
    list.iter().for_each(|stream| streams::close(stream.stream));
}
