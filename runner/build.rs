//! Has cargo build anew when a scenario joins the catalogue, which is part of the binary.

fn main() {
    println!("cargo::rerun-if-changed=../scenarios");
}
