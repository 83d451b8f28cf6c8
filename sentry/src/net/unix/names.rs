//! Names of unix sockets: paths, abstract names, and the sockets bound to them.

use super::UnixSocket;
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use crate::sync::SpinLock;
use crate::vfs::inode::{Create, Inode, S_IFMT};
use crate::vfs::perm::{self, MAY_WRITE};
use crate::vfs::{Ctx, Path, namei};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::{general as c, net as n};

/// Longest struct sockaddr_un.
const MAX_ADDRESS: usize = 110;

/// The name that a socket is bound to.
pub struct Name {
    /// sun_path: a path with its NUL, or an abstract name with its NUL in front.
    text: Vec<u8>,
    /// Where the path leads; keeps the inode, whose address is the key.
    place: Option<Path>,
}

impl Name {
    /// As struct sockaddr_un.
    pub fn address(&self) -> Vec<u8> {
        address(&self.text)
    }

    /// For /proc/net/unix.
    pub fn text(&self) -> Vec<u8> {
        match self.text.split_first() {
            Some((0, rest)) => [b"@".as_slice(), rest].concat(),
            _ => self.text.strip_suffix(&[0]).unwrap_or(&self.text).to_vec(),
        }
    }
}

/// The address of a socket without a name.
pub fn address(text: &[u8]) -> Vec<u8> {
    let mut out = (n::AF_UNIX as u16).to_ne_bytes().to_vec();
    out.extend_from_slice(text);
    out
}

/// Sockets by name. Those at paths are found by their inode, as long as a name of a socket keeps it.
struct Table {
    names: BTreeMap<Vec<u8>, Weak<UnixSocket>>,
    inodes: BTreeMap<usize, Weak<UnixSocket>>,
}

static TABLE: SpinLock<Table> = SpinLock::new(Table { names: BTreeMap::new(), inodes: BTreeMap::new() });
static NEXT_AUTO: AtomicU32 = AtomicU32::new(0);

fn key(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).cast::<()>().addr()
}

/// What an address says.
pub enum Parsed<'a> {
    /// No name at all: bind(2) chooses one.
    Unnamed,
    /// sun_path of an abstract name, with its NUL.
    Abstract(&'a [u8]),
    /// A path.
    Path(&'a [u8]),
}

/// Takes a struct sockaddr_un apart.
///
/// # Errors
/// EINVAL.
pub fn parse(raw: &[u8]) -> Result<Parsed<'_>> {
    let (family, text) = raw.split_at_checked(2).ok_or(Errno::EINVAL)?;
    if u32::from(u16::from_ne_bytes([family[0], family[1]])) != n::AF_UNIX || raw.len() > MAX_ADDRESS {
        return Err(Errno::EINVAL);
    }
    Ok(match text.first() {
        None => Parsed::Unnamed,
        Some(0) => Parsed::Abstract(text),
        Some(_) => Parsed::Path(text.split(|b| *b == 0).next().unwrap_or_default()),
    })
}

/// Chooses an abstract name: five hexadecimal digits.
///
/// # Errors
/// ENOSPC where all are taken.
pub fn bind_auto(socket: &Arc<UnixSocket>) -> Result<Arc<Name>> {
    for _ in 0..1 << 20 {
        let number = NEXT_AUTO.fetch_add(1, Ordering::Relaxed) & 0xf_ffff;
        let text = alloc::format!("\0{number:05x}").into_bytes();
        match bind_abstract(socket, &text) {
            Err(Errno::EADDRINUSE) => {}
            other => return other,
        }
    }
    Err(Errno::ENOSPC)
}

/// Binds an abstract name.
///
/// # Errors
/// EADDRINUSE.
pub fn bind_abstract(socket: &Arc<UnixSocket>, text: &[u8]) -> Result<Arc<Name>> {
    let mut table = TABLE.lock();
    if table.names.contains_key(text) {
        return Err(Errno::EADDRINUSE);
    }
    table.names.insert(text.to_vec(), Arc::downgrade(socket));
    Ok(Arc::new(Name { text: text.to_vec(), place: None }))
}

/// Makes a socket in the file system and binds it.
///
/// # Errors
/// EADDRINUSE where there is something; what mknod(2) says.
pub fn bind_path(socket: &Arc<UnixSocket>, task: &CurrentTask, path: &[u8]) -> Result<Arc<Name>> {
    let ctx = Ctx::of(task);
    let base = ctx.base(task, c::AT_FDCWD, path)?;
    let place = namei::make(&ctx, base, path, Create::Node(c::S_IFSOCK, 0), 0o777).map_err(|e| match e {
        Errno::EEXIST => Errno::EADDRINUSE,
        e => e,
    })?;
    TABLE.lock().inodes.insert(key(place.inode()), Arc::downgrade(socket));
    let mut text = path.to_vec();
    text.push(0);
    Ok(Arc::new(Name { text, place: Some(place) }))
}

/// Frees the name of a socket.
pub fn unbind(socket: &Arc<UnixSocket>, name: &Name) {
    let mut table = TABLE.lock();
    let own = |found: Option<&Weak<UnixSocket>>| {
        found.is_some_and(|found| core::ptr::eq(found.as_ptr(), Arc::as_ptr(socket)))
    };
    match &name.place {
        Some(place) => {
            let key = key(place.inode());
            if own(table.inodes.get(&key)) {
                table.inodes.remove(&key);
            }
        }
        None if own(table.names.get(&name.text)) => {
            table.names.remove(&name.text);
        }
        None => {}
    }
}

/// Finds the socket that an address names.
///
/// # Errors
/// ECONNREFUSED where nobody is bound to it; what path_resolution(7) says; EACCES.
pub fn find(task: Option<&CurrentTask>, raw: &[u8]) -> Result<Arc<UnixSocket>> {
    let found = match parse(raw)? {
        Parsed::Unnamed => return Err(Errno::EINVAL),
        Parsed::Abstract(text) => TABLE.lock().names.get(text).and_then(Weak::upgrade),
        Parsed::Path(path) => {
            let ctx = Ctx::of(task.ok_or(Errno::EINVAL)?);
            let place = ctx.lookup(path)?;
            perm::permission(&ctx.cred, &place.inode().attr(), MAY_WRITE)?;
            if place.inode().attr().mode & S_IFMT != c::S_IFSOCK {
                return Err(Errno::ECONNREFUSED);
            }
            TABLE.lock().inodes.get(&key(place.inode())).and_then(Weak::upgrade)
        }
    };
    found.ok_or(Errno::ECONNREFUSED)
}
