//! Host calls: the requests of the sentry to its VMM.
//!
//! The sentry writes a [`HostCallBlock`] at [`CPU_HOSTCALL`](crate::boot::CPU_HOSTCALL) in the calling vCPU's
//! area and leaves the machine (`kvm`: a 1-byte OUT to [`HOSTCALL_PORT`]; `systrap`: through a futex). The VMM
//! copies the block once, checks every argument, serves the call, stores `ret` and lets the vCPU go on. No call
//! blocks for long: what must wait answers `-EAGAIN` and raises an event later.
//!
//! `ret` is a non-negative result or a negated errno. A number that the VMM does not know answers `-ENOSYS`. Memory
//! is named by guest-physical address; a range must lie within one extent or the call answers `-EFAULT`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// I/O port of host calls under `kvm`.
pub const HOSTCALL_PORT: u16 = 0x500;

/// Most entries of a scatter list ([`GpaRange`]) in one call.
pub const MAX_RANGES: u64 = 256;
/// Most bytes moved by one call.
pub const MAX_TRANSFER: u64 = 4 << 20;
/// Most bytes of a path in a call.
pub const MAX_PATH: u64 = 4096;

/// A request and its answer.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HostCallBlock {
    /// Number of the call.
    pub nr: u64,
    /// Arguments; unused ones are 0.
    pub args: [u64; 6],
    /// Answer, written by the VMM: a non-negative result or a negated errno.
    pub ret: i64,
}

/// A range of guest memory; an array of these is a scatter list.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GpaRange {
    /// First guest-physical address.
    pub gpa: u64,
    /// Length in bytes.
    pub len: u64,
}

/// A host call: its number, and how its arguments travel.
pub trait HostCall: Sized {
    /// Number of the call.
    const NR: u64;
    /// The arguments as they stand in the block.
    fn to_args(&self) -> [u64; 6];
    /// The arguments of a block.
    fn from_args(args: &[u64; 6]) -> Self;
}

macro_rules! host_calls {
    ($($(#[$doc:meta])* $name:ident = $nr:literal { $($(#[$fdoc:meta])* $field:ident),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct $name { $($(#[$fdoc])* pub $field: u64),* }
            impl HostCall for $name {
                const NR: u64 = $nr;
                fn to_args(&self) -> [u64; 6] {
                    #[allow(unused_mut)]
                    let mut args = [0; 6];
                    #[allow(unused_mut, unused_variables)]
                    let mut slots = args.iter_mut();
                    $(if let Some(slot) = slots.next() { *slot = self.$field; })*
                    args
                }
                fn from_args(args: &[u64; 6]) -> Self {
                    #[allow(unused_mut, unused_variables)]
                    let mut slots = args.iter().copied();
                    Self { $($field: slots.next().unwrap_or(0)),* }
                }
            }
        )*
        /// A request, decoded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Request { $($(#[$doc])* $name($name)),* }
        impl Request {
            /// Decodes a block; `None` for a number that is not a host call.
            pub fn decode(block: &HostCallBlock) -> Option<Self> {
                match block.nr {
                    $($nr => Some(Self::$name($name::from_args(&block.args))),)*
                    _ => None,
                }
            }
            /// Name of the call, for logs.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name)),* }
            }
        }
        /// Number and name of every host call.
        pub const HOST_CALLS: &[(u64, &str)] = &[$(($nr, stringify!($name))),*];
    };
}

host_calls! {
    /// Writes text to the debug log. `len` at most 4096. Returns 0.
    LogWrite = 1 {
        /// Severity: 0 error, 1 warning, 2 info, 3 debug, 4 a line of the system-call trace.
        level,
        /// Where the text lies.
        gpa,
        /// Its length in bytes.
        len,
    }
    /// Ends the sandbox. `status` is a wait status as of wait(2) of the first container's first process. Does not
    /// return.
    SandboxExit = 2 {
        /// Wait status.
        status,
    }
    /// The sentry met a bug of its own; the text says which. The VMM logs it and ends the sandbox. Does not return.
    Panic = 3 {
        /// Where the text lies.
        gpa,
        /// Its length in bytes, at most 4096.
        len,
    }
    /// Lets the vCPUs 1 up to the announced number begin at the image's entry point. Returns 0; once only.
    CpuStart = 4 {}
    /// Adds an extent of memory. Returns its guest-physical address, or `-ENOMEM` beyond the limit.
    MemGrow = 5 {
        /// Bytes; a multiple of 2 MiB, at most 1 GiB.
        len,
        /// A [`Zone`](crate::boot::Zone).
        zone,
    }
    /// Gives the contents of frames back to the host; they read as zeros afterwards. Returns 0.
    MemRelease = 6 {
        /// Where an array of [`GpaRange`] lies; each page-aligned, within extents.
        ranges_gpa,
        /// Number of entries, at most [`MAX_RANGES`].
        count,
    }
    /// Fills memory with random bytes of the host. Returns 0.
    Random = 7 {
        /// Where to.
        gpa,
        /// Bytes, at most 4096.
        len,
    }
    /// Reads the host's clocks into a [`ClockSample`](crate::boot::ClockSample). Returns 0.
    ClockRead = 8 {
        /// Where to.
        gpa,
    }
    /// Gives up the rest of the vCPU thread's time slice: the caller spins on a lock whose holder may be off its
    /// CPU. Returns 0.
    CpuYield = 9 {}
    /// `systrap` only: makes a stub process for a vCPU. Its first act is to map its area: mmap(2) of the user zone at
    /// [`STUB_AREA`](crate::systrap::STUB_AREA), which goes to the vCPU's listener like every other. Returns its
    /// process id as the sentry process sees it.
    StubSpawn = 10 {
        /// The vCPU whose stub it is.
        cpu,
        /// Guest-physical address of its area, in the user zone.
        area,
    }
    /// `systrap` only: ends a stub process. Returns 0, or `-ESRCH` where this is none.
    StubKill = 11 {
        /// Its process id.
        pid,
    }
    /// Metadata of a file beneath a donated directory, into a [`FileStat`]. Symbolic links are not followed, in
    /// any component; `..` and absolute paths are refused. Returns 0 or a negated errno of openat2(2).
    FileStatAt = 16 {
        /// Index of the donated directory ([`MountSource`](crate::spec::MountSource)).
        root,
        /// Where the path lies; empty for the directory itself. No terminating NUL.
        path_gpa,
        /// Its length in bytes, at most [`MAX_PATH`].
        path_len,
        /// Where the [`FileStat`] goes.
        stat_gpa,
    }
    /// Target of a symbolic link beneath a donated directory. Returns its length.
    FileReadlink = 17 {
        /// Index of the donated directory.
        root,
        /// Where the path lies.
        path_gpa,
        /// Its length.
        path_len,
        /// Where the target goes.
        buf_gpa,
        /// Bytes there.
        buf_len,
    }
    /// Opens a regular file or a directory beneath a donated directory. Returns a handle. Devices, sockets and
    /// fifos of the host are refused with `-EACCES`.
    FileOpen = 18 {
        /// Index of the donated directory.
        root,
        /// Where the path lies.
        path_gpa,
        /// Its length.
        path_len,
        /// 0 to read, 1 to write, 2 both; bit 8 create (regular file), bit 9 exclusively, bit 10 truncate, bit 11 a
        /// file without a name in the directory that the path names (O_TMPFILE), which may be linked. All but 0 answer
        /// `-EROFS` where the directory was donated read-only.
        flags,
        /// Mode of a created file.
        mode,
    }
    /// Closes a handle. Returns 0.
    FileClose = 19 {
        /// The handle.
        handle,
    }
    /// Reads a file at an offset into a scatter list. Returns the number of bytes.
    FileRead = 20 {
        /// The handle.
        handle,
        /// Offset in the file.
        offset,
        /// Where an array of [`GpaRange`] lies.
        ranges_gpa,
        /// Number of entries, at most [`MAX_RANGES`]; all together at most [`MAX_TRANSFER`] bytes.
        count,
    }
    /// Writes a file at an offset from a scatter list. Returns the number of bytes.
    FileWrite = 21 {
        /// The handle.
        handle,
        /// Offset in the file.
        offset,
        /// Where an array of [`GpaRange`] lies.
        ranges_gpa,
        /// Number of entries.
        count,
    }
    /// Entries of a directory, from where the last call of the handle ended: packed [`DirEntryHead`], each followed
    /// by its name. `.` and `..` are left out. Returns the bytes filled in, 0 at the end.
    FileReadDir = 22 {
        /// The handle.
        handle,
        /// 1 to begin again at the first entry.
        rewind,
        /// Where the entries go.
        buf_gpa,
        /// Bytes there, at least 512.
        buf_len,
    }
    /// Metadata of an open file, into a [`FileStat`]. Returns 0.
    FileStatHandle = 23 {
        /// The handle.
        handle,
        /// Where the [`FileStat`] goes.
        stat_gpa,
    }
    /// An extended attribute of a file beneath a donated directory (`user.`, `security.capability` only). Returns
    /// its length.
    FileGetXattr = 24 {
        /// Index of the donated directory.
        root,
        /// Where the path lies.
        path_gpa,
        /// Bits 0-31 its length; bits 32-63 the length of the attribute's name, which follows the path.
        lens,
        /// Where the value goes.
        buf_gpa,
        /// Bytes there.
        buf_len,
    }
    /// Changes what a path beneath a donated directory names, which must have been donated for writing: `-EROFS`.
    /// Returns 0 or a negated errno of the host's call.
    FileChange = 25 {
        /// Index of the donated directory.
        root,
        /// Where the path lies.
        path_gpa,
        /// Bits 0-31 its length; bits 32-63 the length of a second text, which follows the path.
        lens,
        /// One of [`change`].
        operation,
        /// See there.
        first,
        /// See there.
        second,
    }
    /// Sets the length of an open file. Returns 0.
    FileTruncate = 26 {
        /// The handle, opened for writing.
        handle,
        /// Bytes.
        size,
    }
    /// Waits until an open file is on its disk: fsync(2). Returns 0.
    FileSync = 27 {
        /// The handle.
        handle,
        /// 1 for fdatasync(2).
        data,
    }
    /// Opens a regular file beneath a donated directory to read it, as [`FileOpen`] does, and reads from it. Returns the
    /// number of bytes; where they are fewer than the list has room for, the file is closed again, else bits 32-62 hold
    /// its handle and 1.
    FileReadAt = 40 {
        /// Index of the donated directory.
        root,
        /// Where the path lies.
        path_gpa,
        /// Its length.
        path_len,
        /// Offset in the file.
        offset,
        /// As in [`FileRead`].
        ranges_gpa,
        /// As in [`FileRead`].
        count,
    }
    /// All entries of a directory beneath a donated directory, as [`FileReadDir`] packs them. Returns their bytes, or
    /// `-E2BIG` where they are more than there is room for.
    FileListAt = 41 {
        /// Index of the donated directory.
        root,
        /// Where the path lies.
        path_gpa,
        /// Its length.
        path_len,
        /// Where the entries go.
        buf_gpa,
        /// Bytes there, at least 512.
        buf_len,
    }
    /// Watches a file or directory beneath a donated directory for what anybody does to it: inotify_add_watch(2) with
    /// IN_MASK_ADD. Returns the watch's number, the same for every name of one file. `-ENOTDIR` for a file that was
    /// donated by itself.
    FileWatch = 28 {
        /// Index of the donated directory.
        root,
        /// Where the path lies.
        path_gpa,
        /// Its length.
        path_len,
        /// IN_* bits.
        mask,
    }
    /// Ends a watch. Returns 0.
    FileUnwatch = 29 {
        /// Its number.
        watch,
    }
    /// Takes events of watches, as read(2) of inotify(7) gives them. Returns their bytes, 0 where there are none: then
    /// [`EVENT_FILES`](crate::boot::EVENT_FILES) is raised once when some come.
    FileEvents = 30 {
        /// Where they go.
        buf_gpa,
        /// Bytes there, at least 512.
        buf_len,
    }
    /// Gives an open file a name, which must lie beneath a directory that was donated for writing: linkat(2) with
    /// AT_EMPTY_PATH. Returns 0.
    FileLink = 31 {
        /// The handle.
        handle,
        /// Index of the donated directory.
        root,
        /// Where the path lies.
        path_gpa,
        /// Its length.
        path_len,
    }
    /// Reads from a stream of the container without waiting. Returns the number of bytes, 0 at the end, or
    /// `-EAGAIN`.
    StreamRead = 32 {
        /// Index of the stream ([`StreamSpec`](crate::spec::StreamSpec)).
        stream,
        /// Where to.
        gpa,
        /// Bytes, at most 1 MiB.
        len,
    }
    /// Writes to a stream without waiting. Returns the number of bytes, `-EAGAIN`, or an errno (`-EPIPE`).
    StreamWrite = 33 {
        /// Index of the stream.
        stream,
        /// Where from.
        gpa,
        /// Bytes, at most 1 MiB.
        len,
    }
    /// Readiness of a stream now, as poll(2) bits; where one of `events` is not there yet,
    /// [`EVENT_STREAM`](crate::boot::EVENT_STREAM) is raised once when it comes.
    StreamPoll = 34 {
        /// Index of the stream.
        stream,
        /// poll(2) bits of interest; 0 only asks.
        events,
    }
    /// Moves the offset of a stream that is a regular file, as lseek(2). Returns the offset; `-ESPIPE` elsewhere.
    StreamSeek = 35 {
        /// Index of the stream.
        stream,
        /// Offset (signed).
        offset,
        /// SEEK_SET, SEEK_CUR or SEEK_END.
        whence,
    }
    /// Metadata of a stream, into a [`FileStat`]. Returns 0.
    StreamStat = 36 {
        /// Index of the stream.
        stream,
        /// Where the [`FileStat`] goes.
        stat_gpa,
    }
    /// A terminal request on a stream: TCGETS, TCSETS, TCSETSW, TCSETSF (struct termios of the kernel, 36 bytes),
    /// TIOCGWINSZ, TIOCSWINSZ (8 bytes). Any other answers `-ENOTTY`. Returns 0.
    StreamTerminal = 37 {
        /// Index of the stream.
        stream,
        /// The request.
        request,
        /// Where the struct lies.
        gpa,
    }
    /// Closes a stream that nothing in the container refers to any more; its number may be given to another. Returns 0.
    StreamClose = 38 {
        /// Index of the stream.
        stream,
    }
    /// Takes the next control command: serialised [`Command`](crate::control::Command). Returns its length, or
    /// `-EAGAIN` where there is none.
    ControlReceive = 48 {
        /// Where it goes.
        gpa,
        /// Bytes there, at least 64 KiB.
        len,
    }
    /// The sandbox is frozen: every task is switched out, and every vCPU stands at its barrier with nothing of its own.
    /// Answers the control command that asked for it, and returns 0 when the sandbox is to run on. Until then the
    /// VMM may copy the machine's memory: a machine that is made of the copy begins at the image's entry point with
    /// [`BootInfo::restored`](crate::boot::BootInfo::restored) set, and never returns from this call.
    Frozen = 50 {
        /// Number of the control command.
        command,
    }
    /// Changes attributes of an open file, which must lie beneath a directory that was donated for writing: `-EROFS`.
    /// Returns 0.
    FileSetAttr = 51 {
        /// The handle.
        handle,
        /// [`change::MODE`], [`change::OWNER`] or [`change::TIMES`].
        operation,
        /// The mode; the owner; seconds of the access time.
        first,
        /// The group; nanoseconds of the access time.
        second,
        /// Seconds of the modification time.
        third,
        /// Nanoseconds of the modification time.
        fourth,
    }
    /// Makes a piece of an image ([`ImageSpec`](crate::spec::ImageSpec)) visible at its guest-physical address: 32 MiB,
    /// or what is left of the image. Returns its bytes, a multiple of 2 MiB; what lies behind the image's end must not
    /// be touched. `-EFAULT` where no image is.
    ImageMap = 52 {
        /// Start of the piece: the image's start plus a multiple of [`IMAGE_EXTENT`](crate::boot::IMAGE_EXTENT).
        gpa,
    }
    /// Looks whether an image has become shorter, and notes it in the shared page: a page of one could not be read.
    /// Returns 1 where one has at any time, else 0.
    ImageCheck = 53 {}
    /// Answers a control command, or tells of an event: serialised [`Reply`](crate::control::Reply). Returns 0.
    ControlReply = 49 {
        /// Where it lies.
        gpa,
        /// Its length, at most 64 KiB.
        len,
    }
}

/// Operations of [`FileChange`]. The second text is empty where none is named.
pub mod change {
    /// mkdirat(2); first: the mode.
    pub const MAKE_DIRECTORY: u64 = 0;
    /// linkat(2); second text: path of the new link.
    pub const MAKE_LINK: u64 = 1;
    /// symlinkat(2); second text: the target.
    pub const MAKE_SYMLINK: u64 = 2;
    /// unlinkat(2) of what is no directory.
    pub const REMOVE: u64 = 3;
    /// unlinkat(2) of a directory.
    pub const REMOVE_DIRECTORY: u64 = 4;
    /// renameat2(2); second text: the new path; first: RENAME_NOREPLACE, RENAME_EXCHANGE.
    pub const RENAME: u64 = 5;
    /// fchmodat2(2), or fchmod(2) of a regular file or directory where the host has none; first: the mode.
    pub const MODE: u64 = 6;
    /// fchownat(2); first: owner, second: group; 2^32 - 1 for one that stays. With a second text that is not empty it
    /// belongs to the making of the file, and watches do not tell of it.
    pub const OWNER: u64 = 7;
    /// ftruncate(2) of a regular file; first: bytes.
    pub const SIZE: u64 = 8;
    /// utimensat(2); second text: access and modification time, each seconds and nanoseconds of 8 bytes, little-endian,
    /// with UTIME_NOW and UTIME_OMIT.
    pub const TIMES: u64 = 9;
    /// mknodat(2); first: permissions and S_IFREG, S_IFIFO or S_IFSOCK.
    pub const MAKE_NODE: u64 = 10;
}

/// Metadata of a host file: what statx(2) gives.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FileStat {
    /// Inode number.
    pub ino: u64,
    /// Device that holds it.
    pub dev: u64,
    /// Type and mode bits.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner, as the container sees it.
    pub uid: u32,
    /// Group, as the container sees it.
    pub gid: u32,
    /// Device that it is, for device files.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Access time, seconds and nanoseconds.
    pub atime: [i64; 2],
    /// Modification time.
    pub mtime: [i64; 2],
    /// Status-change time.
    pub ctime: [i64; 2],
}

/// Head of an entry that [`FileReadDir`] returns; the name follows, and the next head begins at a multiple of 8.
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DirEntryHead {
    /// Inode number.
    pub ino: u64,
    /// A `DT_*` type.
    pub kind: u32,
    /// Bytes of the name.
    pub name_len: u32,
}
