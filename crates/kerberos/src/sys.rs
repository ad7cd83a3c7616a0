//! The calls libgssapi has no safe form of: a credential from an explicit store, and the end of a MEMORY ccache.
#![expect(
    unsafe_code,
    reason = "gss_acquire_cred_from and krb5_cc_destroy have no safe binding"
)]

use std::{
    ffi::{CStr, c_char, c_void},
    ptr,
    sync::{OnceLock, atomic::AtomicPtr},
};

use libgssapi::{
    credential::Cred,
    error::{Error, MajorFlags},
};
use libgssapi_sys::{
    GSS_C_INITIATE, GSS_S_COMPLETE, gss_OID_desc, gss_acquire_cred_from, gss_buffer_desc, gss_cred_id_t,
    gss_import_name, gss_key_value_element_desc, gss_key_value_set_desc, gss_name_t, gss_release_name,
};

/// GSS_KRB5_NT_PRINCIPAL_NAME, 1.2.840.113554.1.2.2.1.
const PRINCIPAL_NAME: &[u8; 10] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";

#[link(name = "krb5")]
unsafe extern "C" {
    fn krb5_init_context(context: *mut *mut c_void) -> i32;
    fn krb5_free_context(context: *mut c_void);
    fn krb5_cc_resolve(context: *mut c_void, name: *const c_char, cache: *mut *mut c_void) -> i32;
    fn krb5_cc_destroy(context: *mut c_void, cache: *mut c_void) -> i32;
}

/// A name as the library holds it, released on every way out.
struct RawName(gss_name_t);

impl Drop for RawName {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the name came from gss_import_name and is released once, here.
        unsafe { gss_release_name(&raw mut minor, &raw mut self.0) };
    }
}

fn check(major: u32, minor: u32) -> Result<(), Error> {
    if major == GSS_S_COMPLETE {
        Ok(())
    } else {
        Err(Error {
            major: MajorFlags::from_bits_retain(major),
            minor,
        })
    }
}

fn import(principal: &str) -> Result<RawName, Error> {
    let mut minor = 0;
    let mut name: gss_name_t = ptr::null_mut();
    let mut text = gss_buffer_desc {
        length: principal.len() as _,
        value: principal.as_ptr().cast_mut().cast(),
    };
    let mut oid = gss_OID_desc {
        length: 10,
        elements: PRINCIPAL_NAME.as_ptr().cast_mut().cast(),
    };
    // SAFETY: buffer and OID point at memory that outlives the call, which copies both and writes to neither.
    let major = unsafe { gss_import_name(&raw mut minor, &raw mut text, &raw mut oid, &raw mut name) };
    check(major, minor)?;
    Ok(RawName(name))
}

/// An initiator credential for `principal`, its key from `keytab`, its tickets into `ccache` (both with their type
/// prefix). May block for as long as the KDC is silent.
pub(crate) fn acquire(principal: &str, keytab: &CStr, ccache: &CStr) -> Result<Cred, Error> {
    from(
        Some(principal),
        &[(c"client_keytab", keytab), (c"ccache", ccache)],
    )
}

/// An initiator credential out of a ccache that is there already: `ccache`, else the one the environment and
/// krb5.conf name, of `principal` if one is given.
pub(crate) fn held(principal: Option<&str>, ccache: Option<&CStr>) -> Result<Cred, Error> {
    match ccache {
        Some(ccache) => from(principal, &[(c"ccache", ccache)]),
        None => from(principal, &[]),
    }
}

/// Out of a store of these keys and values.
fn from(principal: Option<&str>, store: &[(&CStr, &CStr)]) -> Result<Cred, Error> {
    keep_configuration();
    let name = principal.map(import).transpose()?;
    let mut elements: Vec<_> = store
        .iter()
        .map(|(key, value)| gss_key_value_element_desc {
            key: key.as_ptr(),
            value: value.as_ptr(),
        })
        .collect();
    // a store cut short would be another store
    let count = u32::try_from(elements.len()).map_err(|_| Error {
        major: MajorFlags::GSS_S_FAILURE,
        minor: 0,
    })?;
    let store = gss_key_value_set_desc {
        count,
        elements: elements.as_mut_ptr(),
    };
    let mut minor = 0;
    let mut cred: gss_cred_id_t = ptr::null_mut();
    // SAFETY: name and store, its elements and their texts, outlive the call, which writes to none of them; a null name
    // means whoever the store is of; the out parameters we do not want may be null; a null set of mechanisms means the
    // default ones.
    let major = unsafe {
        gss_acquire_cred_from(
            &raw mut minor,
            name.as_ref().map_or(ptr::null_mut(), |name| name.0),
            0,
            ptr::null_mut(),
            GSS_C_INITIATE.cast_signed(),
            &raw const store,
            &raw mut cred,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    check(major, minor)?;
    // SAFETY: the credential is new and nobody else holds it.
    Ok(unsafe { Cred::from_c(cred) })
}

/// Keeps one context of libkrb5 for as long as the process lives. GSSAPI makes contexts of its own for each call and frees them,
/// and with the last of them goes what was read of krb5.conf: each call would read and parse it anew, twice. With this one
/// alive it is looked at once a second and read again when it has changed.
fn keep_configuration() {
    static KEPT: OnceLock<AtomicPtr<c_void>> = OnceLock::new();
    KEPT.get_or_init(|| {
        let mut context = ptr::null_mut();
        // SAFETY: a plain libkrb5 call. The context is used for nothing and never freed; after a failure, which the next call
        // will tell of, there is none.
        let failed = unsafe { krb5_init_context(&raw mut context) } != 0;
        AtomicPtr::new(if failed { ptr::null_mut() } else { context })
    });
}

/// Empties and forgets a MEMORY ccache. Closing it, which releasing the credential does, would leave its keys in
/// the process for good.
pub(crate) fn destroy_ccache(ccache: &CStr) {
    let (mut context, mut cache) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: plain libkrb5 calls; the handle is used only where the call that makes it succeeded, and
    // krb5_cc_destroy takes it over whatever it returns.
    unsafe {
        if krb5_init_context(&raw mut context) != 0 {
            return;
        }
        if krb5_cc_resolve(context, ccache.as_ptr(), &raw mut cache) == 0 {
            krb5_cc_destroy(context, cache);
        }
        krb5_free_context(context);
    }
}
