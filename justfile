# What CI runs; changes nothing.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo nextest run --workspace
    cargo doc --workspace --no-deps

# Formats, and applies what the lints suggest.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty

# The show.
demo:
    cargo run --release -- lab demo
