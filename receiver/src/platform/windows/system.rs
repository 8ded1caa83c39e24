//! Which system this is.

use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
use windows_sys::Win32::System::SystemInformation::{
    ComputerNamePhysicalDnsHostname, GetComputerNameExW, OSVERSIONINFOW,
};

/// `os.type` of the semantic conventions.
pub(crate) const OS_TYPE: &str = "windows";

/// Longest DNS name, and its end.
const NAME_MAX: usize = 256;

/// The running system in words: `Windows 10.0.20348 x86_64`.
pub(crate) fn describe() -> String {
    let version = version().unwrap_or_else(|| "of unknown version".to_owned());
    format!("Windows {version} {}", machine())
}

/// The DNS name of this host, without its domain.
pub(crate) fn host_name() -> Option<String> {
    let mut name = [0_u16; NAME_MAX];
    let mut length = u32::try_from(name.len()).ok()?;
    // SAFETY: the pointers are to live values, `length` is that of the buffer; the call fills both and keeps neither.
    let filled = unsafe {
        GetComputerNameExW(
            ComputerNamePhysicalDnsHostname,
            name.as_mut_ptr(),
            &raw mut length,
        )
    };
    let name = String::from_utf16(name.get(..usize::try_from(length).ok()?)?).ok()?;
    (filled != 0 && !name.is_empty()).then_some(name)
}

/// The hardware that we are built for: `x86_64`.
pub(crate) fn machine() -> String {
    std::env::consts::ARCH.to_owned()
}

/// `os.name` and `os.version`.
pub(crate) fn product() -> Option<(&'static str, String)> {
    Some(("Windows", version()?))
}

/// `10.0.20348`: major, minor and build, of the system itself and not of what a manifest claims to be compatible with.
fn version() -> Option<String> {
    let mut info = OSVERSIONINFOW {
        dwOSVersionInfoSize: u32::try_from(size_of::<OSVERSIONINFOW>()).ok()?,
        ..Default::default()
    };
    // SAFETY: the pointer is to a live value that states its size, which the call fills and does not keep.
    let status = unsafe { RtlGetVersion(&raw mut info) };
    (status == 0).then(|| {
        format!(
            "{}.{}.{}",
            info.dwMajorVersion, info.dwMinorVersion, info.dwBuildNumber
        )
    })
}
