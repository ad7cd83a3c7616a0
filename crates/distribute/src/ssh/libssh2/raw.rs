//! What ssh2 does not bind: two SFTP extensions of libssh2's public header, a bound on what a server sends, and a safe
//! reading of a server's list.
//!
//! The only unsafe code of this crate. Every call is made with the session's lock held ([`ssh2::Session::raw`]), as
//! ssh2 makes its own.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint, c_void},
    mem::MaybeUninit,
    os::fd::BorrowedFd,
    ptr::NonNull,
    slice,
};

use libssh2_sys::{LIBSSH2_SESSION, LIBSSH2_SFTP, LIBSSH2_SFTP_STATVFS};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};

use super::{
    budget,
    sftp::{lost, refused},
};
use crate::{
    dial::clip,
    placement::{Fault, Space},
};

#[expect(
    unsafe_code,
    reason = "declared in libssh2_sftp.h since 1.11 and not by libssh2-sys"
)]
unsafe extern "C" {
    fn libssh2_sftp_posix_rename_ex(
        sftp: *mut LIBSSH2_SFTP,
        from: *const c_char,
        from_length: usize,
        to: *const c_char,
        to_length: usize,
    ) -> c_int;

    fn libssh2_sftp_statvfs(
        sftp: *mut LIBSSH2_SFTP,
        path: *const c_char,
        path_length: usize,
        answer: *mut LIBSSH2_SFTP_STATVFS,
    ) -> c_int;

    fn libssh2_session_callback_set(
        session: *mut LIBSSH2_SESSION,
        kind: c_int,
        callback: *mut c_void,
    ) -> *mut c_void;
}

/// `LIBSSH2_CALLBACK_RECV` of libssh2.h.
const CALLBACK_RECV: c_int = 6;

/// Lets the session of this thread receive what [`budget`] has, and no more.
pub(super) fn bound(session: &ssh2::Session) {
    let mut raw = session.raw();
    #[expect(unsafe_code, reason = "libssh2_session_callback_set")]
    // SAFETY: the session's lock is held; the callback has the signature `LIBSSH2_RECV_FUNC` of libssh2.h and lives for
    // ever.
    unsafe {
        libssh2_session_callback_set(&raw mut *raw, CALLBACK_RECV, receive as *mut c_void);
    }
}

/// As libssh2's own function does it: so many bytes, or an error's number made negative.
#[expect(
    unsafe_code,
    reason = "called by libssh2 with a socket and a buffer of its own"
)]
unsafe extern "C" fn receive(
    socket: c_int,
    buffer: *mut c_void,
    length: usize,
    flags: c_int,
    _: *mut *mut c_void,
) -> isize {
    let error = |errno: Errno| isize::try_from(-errno.raw_os_error()).unwrap_or(-1);
    let most = length.min(budget::left());
    if most == 0 {
        return error(Errno::CONNRESET);
    }
    // SAFETY: libssh2 calls this with the session's or an agent's open socket, and with a buffer of at least `length`
    // bytes that nobody else uses meanwhile.
    let (socket, buffer) = unsafe {
        (
            BorrowedFd::borrow_raw(socket),
            slice::from_raw_parts_mut(buffer.cast::<MaybeUninit<u8>>(), most),
        )
    };
    match recv(socket, buffer, RecvFlags::from_bits_retain(flags.cast_unsigned())) {
        Ok((_, received)) => {
            budget::spend(received);
            isize::try_from(received).unwrap_or(-1)
        }
        Err(errno) => error(errno),
    }
}

/// An SFTP channel of its own in a session.
pub(super) struct Extensions {
    /// Keeps the session, and with it the channel, alive.
    session: ssh2::Session,
    sftp: NonNull<LIBSSH2_SFTP>,
}

impl Extensions {
    pub(super) fn open(session: &ssh2::Session) -> Result<Self, Fault> {
        let opened = {
            let mut raw = session.raw();
            #[expect(
                unsafe_code,
                reason = "libssh2_sftp_init on a live session whose lock is held"
            )]
            // SAFETY: the guard gives exclusive access to a session that ssh2 keeps alive.
            NonNull::new(unsafe { libssh2_sys::libssh2_sftp_init(&raw mut *raw) })
        };
        match opened {
            Some(sftp) => Ok(Self {
                session: session.clone(),
                sftp,
            }),
            None => Err(
                match ssh2::Error::last_session_error(session).map(|error| (error.code(), error)) {
                    Some((ssh2::ErrorCode::Session(code), error)) => lost(code, error.message()),
                    _ => Fault::Lost("a second SFTP channel was refused".into()),
                },
            ),
        }
    }

    /// `posix-rename@openssh.com`.
    pub(super) fn replace(&self, from: &str, to: &str) -> Result<(), Fault> {
        let raw = self.session.raw();
        #[expect(unsafe_code, reason = "libssh2_sftp_posix_rename_ex")]
        // SAFETY: `sftp` lives as long as `self`; pointers and lengths are those of live strings, which libssh2 copies
        // into its packet before it returns; the guard keeps every other call out.
        let code = unsafe {
            libssh2_sftp_posix_rename_ex(
                self.sftp.as_ptr(),
                from.as_ptr().cast(),
                from.len(),
                to.as_ptr().cast(),
                to.len(),
            )
        };
        drop(raw);
        self.answer(code)
    }

    /// `statvfs@openssh.com`.
    pub(super) fn space(&self, path: &str) -> Result<Space, Fault> {
        let mut answer = MaybeUninit::<LIBSSH2_SFTP_STATVFS>::zeroed();
        let raw = self.session.raw();
        #[expect(unsafe_code, reason = "libssh2_sftp_statvfs")]
        // SAFETY: as for `replace`; libssh2 writes the answer before it returns and does not keep the pointer.
        let code = unsafe {
            libssh2_sftp_statvfs(
                self.sftp.as_ptr(),
                path.as_ptr().cast(),
                path.len(),
                answer.as_mut_ptr(),
            )
        };
        drop(raw);
        self.answer(code)?;
        #[expect(unsafe_code, reason = "reading the answer")]
        // SAFETY: plain integers, zeroed before the call: every bit pattern is one.
        let answer = unsafe { answer.assume_init() };
        Ok(Space {
            free_bytes: answer.f_bavail.saturating_mul(answer.f_frsize),
            free_files: answer.f_favail,
            counts_files: answer.f_files != 0,
            // LIBSSH2_SFTP_ST_RDONLY
            read_only: answer.f_flag & 1 != 0,
        })
    }

    fn answer(&self, code: c_int) -> Result<(), Fault> {
        match code {
            0 => return Ok(()),
            // libssh2's way of saying that the server does not offer the extension
            1.. => return Err(refused(code)),
            _ => {}
        }
        if code != libssh2_sys::LIBSSH2_ERROR_SFTP_PROTOCOL {
            return Err(lost(
                code,
                ssh2::Error::from_session_error(&self.session, code).message(),
            ));
        }
        let raw = self.session.raw();
        #[expect(unsafe_code, reason = "libssh2_sftp_last_error")]
        // SAFETY: reads an integer of the live channel, under the session's lock.
        let status = unsafe { libssh2_sys::libssh2_sftp_last_error(self.sftp.as_ptr()) };
        drop(raw);
        Err(refused(
            c_int::try_from(status).unwrap_or(libssh2_sys::LIBSSH2_FX_FAILURE),
        ))
    }
}

impl Drop for Extensions {
    fn drop(&mut self) {
        let raw = self.session.raw();
        #[expect(unsafe_code, reason = "libssh2_sftp_shutdown")]
        // SAFETY: the channel is live and this is its last use; the session outlives it by the clone held here.
        let _ = unsafe { libssh2_sys::libssh2_sftp_shutdown(self.sftp.as_ptr()) };
        drop(raw);
    }
}

/// What the server accepts of `user`, after a refusal; empty if it does not say.
///
/// ssh2's `auth_methods` panics where the server's list is not UTF-8.
pub(super) fn accepted_methods(session: &ssh2::Session, user: &str) -> Vec<String> {
    let (Ok(name), Ok(length)) = (CString::new(user), c_uint::try_from(user.len())) else {
        return Vec::new();
    };
    let mut raw = session.raw();
    #[expect(unsafe_code, reason = "libssh2_userauth_list")]
    // SAFETY: the session's lock is held and the name outlives the call.
    let list = unsafe { libssh2_sys::libssh2_userauth_list(&raw mut *raw, name.as_ptr(), length) };
    if list.is_null() {
        return Vec::new();
    }
    #[expect(unsafe_code, reason = "reading the list")]
    // SAFETY: libssh2 ends the list with a zero byte and keeps it until the next call on this session, which the lock
    // held here keeps out.
    let list = unsafe { CStr::from_ptr(list) }.to_string_lossy().into_owned();
    drop(raw);
    clip(&list)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
