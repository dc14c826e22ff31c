"""disttask inside other frameworks. Each module needs its framework; `import disttask` imports none of them."""
