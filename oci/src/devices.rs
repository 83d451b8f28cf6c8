//! The device nodes of config.json (`linux.devices`), with the defaults and the words of runc.

use abi::spec::{DeviceKind, DeviceSpec};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};
use serde_json::Value;

use crate::Error;

/// The field that errors name.
const FIELD: &str = "linux.devices";
/// Permissions of a node for which none are given.
const DEFAULT_MODE: u32 = 0o666;
/// What the kernel keeps of a major and of a minor number, whatever is asked for.
const MAJOR_MASK: u32 = 0xfff;
const MINOR_MASK: u32 = 0xf_ffff;
/// In rules of control groups this number stands for all; a node cannot have it.
const WILDCARD: i64 = -1;

/// Converts the list of `linux`.
pub fn convert(linux: Option<&Linux>) -> Result<Vec<DeviceSpec>, Error> {
    let list = linux.and_then(|linux| linux.devices().as_ref());
    list.into_iter().flatten().filter_map(|device| convert_one(device).transpose()).collect()
}

/// Converts one; `None` where runc makes no node: without a path the entry is about control groups only, and
/// `/dev/ptmx` leads to the container's own terminals.
fn convert_one(device: &LinuxDevice) -> Result<Option<DeviceSpec>, Error> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(invalid_type("a")),
    };
    let path = device.path().to_string_lossy();
    let path = format!("/{}", path.trim_start_matches('/'));
    if device.path().as_os_str().is_empty() || path == "/dev/ptmx" {
        return Ok(None);
    }
    if device.major() == WILDCARD || device.minor() == WILDCARD {
        let reason = "error creating device nodes: cannot mkdev() device with wildcards";
        return Err(Error::invalid(FIELD, reason));
    }
    Ok(Some(DeviceSpec {
        path,
        kind,
        major: device.major() as u32 & MAJOR_MASK,
        minor: device.minor() as u32 & MINOR_MASK,
        mode: device.file_mode().unwrap_or(DEFAULT_MODE) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    }))
}

fn invalid_type(name: &str) -> Error {
    Error::invalid(FIELD, format!("invalid device type {name:?}"))
}

/// The error of a configuration that does not have the shape of one because of a device's type.
pub fn wrong_type(config: &str) -> Option<Error> {
    let config: Value = serde_json::from_str(config).ok()?;
    let devices = config.get("linux")?.get("devices")?.as_array()?;
    let mut types = devices.iter().filter_map(|device| device.get("type")?.as_str());
    types.find(|name| !matches!(*name, "a" | "b" | "c" | "p" | "u")).map(invalid_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(device: Value) -> Result<Option<DeviceSpec>, Error> {
        convert_one(&serde_json::from_value(device).expect("a device"))
    }

    #[test]
    fn defaults_and_bounds_are_those_of_runc() {
        let plain = of(serde_json::json!({"path": "dev/x", "type": "u", "major": 1, "minor": 3}));
        let expected = DeviceSpec {
            path: "/dev/x".into(),
            kind: DeviceKind::Character,
            major: 1,
            minor: 3,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        assert_eq!(plain.expect("a device"), Some(expected));
        let odd = serde_json::json!({"path": "/x", "type": "b", "major": -5, "minor": 1 << 21, "fileMode": 0o20640});
        let odd = of(odd).expect("a device").expect("a node");
        assert_eq!((odd.major, odd.minor, odd.mode), (0xffb, 0, 0o640));
        for (device, made) in [("/dev/ptmx", false), ("", false), ("/dev/ptmx2", true)] {
            let device = of(serde_json::json!({"path": device, "type": "c"}));
            assert_eq!(device.expect("a device").is_some(), made);
        }
    }

    #[test]
    fn wrong_entries_are_named_as_runc_does() {
        for (device, words) in [
            (serde_json::json!({"path": "/x", "type": "a"}), "invalid device type \"a\""),
            (serde_json::json!({"path": "/x", "type": "c", "major": -1}), "device with wildcards"),
            (serde_json::json!({"path": "/x", "type": "p", "minor": -1}), "device with wildcards"),
        ] {
            let error = of(device).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        let text = |kind: &str| format!("{{\"linux\": {{\"devices\": [{{\"type\": \"{kind}\"}}]}}}}");
        assert!(wrong_type(&text("x")).is_some_and(|e| e.to_string().contains("invalid device type \"x\"")));
        assert!(wrong_type(&text("c")).is_none() && wrong_type("{").is_none());
    }
}
