//! ioctl(2).

use super::{Args, fcntl};
use crate::errno::{Errno, Result};
use crate::kernel::task::CurrentTask;
use linux_raw_sys::general as c;
use linux_raw_sys::ioctl as i;

/// ioctl(2).
pub fn ioctl(task: &CurrentTask, args: &Args) -> Result<u64> {
    let files = task.files();
    let file = files.get(args.i32(0))?;
    let (request, arg) = (args.u32(1), args.u64(2));
    match request {
        i::FIOCLEX => files.set_cloexec(args.i32(0), true).map(|()| 0),
        i::FIONCLEX => files.set_cloexec(args.i32(0), false).map(|()| 0),
        i::FIONBIO | i::FIOASYNC => {
            let on: i32 = task.read_obj(arg)?;
            let bit = if request == i::FIONBIO { c::O_NONBLOCK } else { c::FASYNC };
            if bit == c::FASYNC && !file.ops().can_async() {
                return Err(Errno::ENOTTY);
            }
            let flags = file.flags();
            fcntl::set_flags(&file, args.i32(0), if on != 0 { flags | bit } else { flags & !bit })?;
            Ok(0)
        }
        i::FIOSETOWN | i::SIOCSPGRP if file.path.dentry.kind() == c::S_IFSOCK => {
            fcntl::set_owner(task, &file, task.read_obj(arg)?)
        }
        i::FIOGETOWN | i::SIOCGPGRP if file.path.dentry.kind() == c::S_IFSOCK => {
            task.write_obj(arg, &fcntl::get_owner(&file)).map(|()| 0)
        }
        i::FIONREAD if file.path.dentry.kind() == c::S_IFREG => {
            let pos = *file.position();
            let left = file.ops().size().saturating_sub(pos);
            task.write_obj(arg, &i32::try_from(left).unwrap_or(i32::MAX))?;
            Ok(0)
        }
        i::FIOQSIZE => match file.path.dentry.kind() {
            c::S_IFREG | c::S_IFDIR | c::S_IFLNK => {
                task.write_obj(arg, &file.path.inode().stat()?.size)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        },
        _ => file.ops().ioctl(task, &file, request, arg),
    }
}
