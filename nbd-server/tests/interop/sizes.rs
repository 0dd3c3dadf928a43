//! Clients that keep to block sizes which the server enforces.

use brim_device::Bytes;
use libtest_mimic::Failed;
use nbd_server::{BlockSizes, Disk, ExportOptions};

use super::{Check, Rig, noise, output, succeed, text};

pub(crate) const CHECKS: [(&str, &str, Check); 3] = [
    ("nbdinfo", "sizes_are_told", nbdinfo_sizes),
    ("nbdcopy", "sizes_are_kept", nbdcopy_sizes),
    ("qemu-io", "sizes_are_kept", qemu_io_sizes),
];

const SIZES: BlockSizes = BlockSizes { minimum: 4096, preferred: 65536, maximum: 1 << 20 };

/// Another disk of the same server, with its URI.
fn sized(rig: &Rig) -> Result<(Disk, String), Failed> {
    let disk = Disk::new(Bytes(8 << 20))?;
    let options = ExportOptions { block_sizes: SIZES, enforce_block_sizes: true, ..ExportOptions::default() };
    rig.server.add_export_with("sized", disk.clone(), options)?;
    Ok((disk, rig.uri.replace("/disk", "/sized")))
}

fn nbdinfo_sizes(rig: &Rig) -> Result<(), Failed> {
    let (_disk, uri) = sized(rig)?;
    let told: serde_json::Value = serde_json::from_str(&succeed("nbdinfo", &["--json", &uri])?)?;
    let export = &told["exports"][0];
    for (key, size) in [("minimum", 4096), ("preferred", 65536), ("maximum", 1 << 20)] {
        assert_eq!(export[format!("block_size_{key}")], size, "{key}");
    }
    let listed = succeed("nbdinfo", &["--list", "--json", &rig.uri])?;
    assert!(listed.contains("\"disk\"") && listed.contains("\"sized\""), "{listed}");
    Ok(())
}

fn nbdcopy_sizes(rig: &Rig) -> Result<(), Failed> {
    let (disk, uri) = sized(rig)?;
    let data = noise(8 << 20);
    let (there, back) = (rig.dir.path().join("there"), rig.dir.path().join("back"));
    std::fs::write(&there, &data)?;
    succeed("nbdcopy", &[text(&there), &uri])?;
    assert_eq!(disk.allocated(), Bytes(8 << 20));
    succeed("nbdcopy", &[&uri, text(&back)])?;
    assert!(std::fs::read(&back)? == data, "what came back differs");
    // One that is told to send more than the maximum is refused, and not out of step.
    assert!(!output("nbdcopy", &["--request-size=4194304", text(&there), &uri])?.status.success());
    Ok(())
}

fn qemu_io_sizes(rig: &Rig) -> Result<(), Failed> {
    let (disk, uri) = sized(rig)?;
    let commands = ["write -P 7 1000 3000", "read -P 7 1000 3000", "write -P 8 0 4M", "read -P 8 0 4M"];
    let mut arguments = vec!["-f", "raw", uri.as_str()];
    arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
    let told = succeed("qemu-io", &arguments)?;
    assert!(!told.contains("fail") && !told.contains("rror"), "{told}");
    assert!(disk.stats().write.requests >= 5);
    Ok(())
}
