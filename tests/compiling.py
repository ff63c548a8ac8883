"""How XLA compiles for tests. JAX is not imported: it reads `XLA_FLAGS` when it begins."""

from importlib.metadata import version

OLD_EMITTERS = int(version("jax").split(".")[1]) < 11
"""Whether XLA has, beside its emitters of today, those of before, which take a third of their time."""

UNOPTIMIZED = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,  # else a program is cut into parts that are compiled apart
} | ({"xla_cpu_use_fusion_emitters": False} if OLD_EMITTERS else {})
"""Options with which programs compile in a third of the time (two thirds from JAX 0.11 on), and run slowly."""

AS_USERS_DO = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_parallel_codegen_split_count": 32,
} | ({"xla_cpu_use_fusion_emitters": True} if OLD_EMITTERS else {})
"""XLA's defaults, for what has to be told of programs that run elsewhere."""

XLA_FLAGS = " ".join(f"--{name}={int(value)}" for name, value in UNOPTIMIZED.items())
"""The same for a process, as `make test` asks for with ADAMX_COMPILE_QUICKLY; `make test-all` compiles as users do."""
