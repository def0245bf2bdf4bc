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

# The simulation of managers, gossip, push and agents, so many runs from one seed on; `just sim 1 17` repeats run 17.
sim seeds="10000" first="1":
    SWARMNET_SIM_SEEDS={{seeds}} SWARMNET_SIM_SEED={{first}} cargo test -p swarmnet-tests --test sim every_invariant -- --nocapture

# The fuzz targets, so many spoiled inputs for each from one seed.
fuzz runs="100000" seed="1":
    SWARMNET_FUZZ_RUNS={{runs}} SWARMNET_FUZZ_SEED={{seed}} cargo test -p swarmnet-tests --test fuzz nothing_from_outside
