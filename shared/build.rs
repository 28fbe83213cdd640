//! Migrations are compiled in; Cargo would not see a new one.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
