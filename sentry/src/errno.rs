//! Error numbers, as errno(3).

/// An error that a program sees, or one of the kernel's own restart codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u16);

macro_rules! errnos {
    ($($name:ident),* $(,)?) => {
        impl Errno {
            $(
                #[doc = concat!(stringify!($name), " of errno(3).")]
                pub const $name: Errno = Errno(linux_raw_sys::errno::$name as u16);
            )*
        }
        impl Errno {
            /// The symbolic name, where it has one.
            pub fn name(self) -> &'static str {
                match self {
                    $(Errno::$name => stringify!($name),)*
                    Errno::RESTART_SYS => "ERESTARTSYS",
                    Errno::RESTART_NO_HAND => "ERESTARTNOHAND",
                    Errno::RESTART_BLOCK => "ERESTART_RESTARTBLOCK",
                    _ => "E?",
                }
            }
        }
    };
}

errnos!(
    EPERM,
    ENOENT,
    ESRCH,
    EINTR,
    EIO,
    ENXIO,
    E2BIG,
    ENOEXEC,
    EBADF,
    ECHILD,
    EAGAIN,
    ENOMEM,
    EACCES,
    EFAULT,
    ENOTBLK,
    EBUSY,
    EEXIST,
    EXDEV,
    ENODEV,
    ENOTDIR,
    EISDIR,
    EINVAL,
    ENFILE,
    EMFILE,
    ENOTTY,
    ETXTBSY,
    EFBIG,
    ENOSPC,
    ESPIPE,
    EROFS,
    EMLINK,
    EPIPE,
    EDOM,
    ERANGE,
    EDEADLK,
    ENAMETOOLONG,
    ENOLCK,
    ENOSYS,
    ENOTEMPTY,
    ELOOP,
    ENOMSG,
    EIDRM,
    ENODATA,
    ETIME,
    EOVERFLOW,
    EILSEQ,
    EUSERS,
    ENOTSOCK,
    EDESTADDRREQ,
    EMSGSIZE,
    EPROTOTYPE,
    ENOPROTOOPT,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
    EOPNOTSUPP,
    EPFNOSUPPORT,
    EAFNOSUPPORT,
    EADDRINUSE,
    EADDRNOTAVAIL,
    ENETDOWN,
    ENETUNREACH,
    ECONNABORTED,
    ECONNRESET,
    ENOBUFS,
    EISCONN,
    ENOTCONN,
    ESHUTDOWN,
    ETOOMANYREFS,
    ETIMEDOUT,
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EALREADY,
    EINPROGRESS,
    ESTALE,
    EDQUOT,
    ECANCELED,
    EOWNERDEAD,
    ENOTRECOVERABLE,
    EUCLEAN,
    EBADFD,
    EPROTO,
    ELIBBAD,
);

impl Errno {
    /// The call was interrupted by a signal: restart it if the handler says SA_RESTART, else EINTR.
    pub const RESTART_SYS: Errno = Errno(512);
    /// Interrupted: EINTR where a handler ran, restart where none did.
    pub const RESTART_NO_HAND: Errno = Errno(514);
    /// Interrupted: EINTR where a handler ran, else continue through restart_syscall(2).
    pub const RESTART_BLOCK: Errno = Errno(516);

    /// The value as a system call returns it: negated.
    pub fn as_ret(self) -> u64 {
        (-i64::from(self.0)) as u64
    }

    /// From a host call's answer.
    ///
    /// # Errors
    /// Negative answers are errors.
    pub fn check(ret: i64) -> Result<u64, Errno> {
        if ret < 0 { Err(Errno(u16::try_from(-ret).unwrap_or(Errno::EIO.0))) } else { Ok(ret as u64) }
    }
}

/// Result of a system call or of what serves one.
pub type Result<T, E = Errno> = core::result::Result<T, E>;
