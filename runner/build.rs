//! Has cargo build anew when a file joins a directory that is part of the binary.

fn main() {
    println!("cargo::rerun-if-changed=../configs");
    println!("cargo::rerun-if-changed=../scenarios");
}
