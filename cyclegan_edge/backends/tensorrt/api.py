"""What this package uses of TensorRT, as types; TensorRT itself ships none.

mypy holds our code to these names, and the contract test holds the names and the numbers of arguments to every version
from 10.3 to 11.4.
"""

from collections.abc import Sequence
from typing import Any, Protocol


class ITensor(Protocol):
    name: str
    dtype: Any
    shape: Sequence[int]


class ILayer(Protocol):
    name: str
    type: Any
    num_inputs: int
    num_outputs: int

    def get_input(self, index: int, /) -> ITensor | None: ...
    def get_output(self, index: int, /) -> ITensor: ...


class INetworkDefinition(Protocol):
    num_inputs: int
    num_outputs: int
    num_layers: int

    def get_input(self, index: int, /) -> ITensor: ...
    def get_output(self, index: int, /) -> ITensor: ...
    def get_layer(self, index: int, /) -> ILayer: ...


class IOptimizationProfile(Protocol):
    def set_shape(self, tensor: str, least: Sequence[int], best: Sequence[int], most: Sequence[int], /) -> None: ...


class ITimingCache(Protocol):
    def serialize(self) -> bytes: ...


class IBuilderConfig(Protocol):
    progress_monitor: Any
    builder_optimization_level: int
    profiling_verbosity: Any
    num_compute_capabilities: int  # for RTX only

    def set_memory_pool_limit(self, pool: Any, nbytes: int, /) -> None: ...
    def set_flag(self, flag: Any, /) -> None: ...
    def clear_flag(self, flag: Any, /) -> None: ...
    def add_optimization_profile(self, profile: IOptimizationProfile, /) -> int: ...
    def create_timing_cache(self, content: bytes, /) -> ITimingCache | None: ...
    def set_timing_cache(self, cache: ITimingCache | None, ignore_mismatch: bool, /) -> bool: ...
    def get_timing_cache(self) -> ITimingCache: ...
    def set_compute_capability(self, capability: Any, index: int, /) -> bool: ...  # for RTX only


class Builder(Protocol):
    def create_network(self, flags: int, /) -> INetworkDefinition: ...
    def create_builder_config(self) -> IBuilderConfig: ...
    def create_optimization_profile(self) -> IOptimizationProfile: ...
    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig, /) -> bytes | None: ...


class ParserError(Protocol):
    def node_operator(self) -> str: ...
    def node_name(self) -> str: ...
    def desc(self) -> str: ...


class OnnxParser(Protocol):
    num_errors: int

    def parse_from_file(self, path: str, /) -> bool: ...
    def get_error(self, index: int, /) -> ParserError: ...


class IExecutionContext(Protocol):
    profiler: Any

    def set_input_shape(self, tensor: str, shape: Sequence[int], /) -> bool: ...
    def infer_shapes(self) -> list[str]: ...
    def set_tensor_address(self, tensor: str, address: int, /) -> bool: ...
    def execute_async_v3(self, stream: int, /) -> bool: ...


class EngineInspector(Protocol):
    execution_context: IExecutionContext

    def get_engine_information(self, form: Any, /) -> str: ...


class IRuntimeCache(Protocol):  # for RTX only
    def serialize(self) -> bytes: ...
    def deserialize(self, content: bytes, /) -> bool: ...


class IRuntimeConfig(Protocol):  # for RTX only
    cuda_graph_strategy: Any
    dynamic_shapes_kernel_specialization_strategy: Any

    def create_runtime_cache(self) -> IRuntimeCache: ...
    def set_runtime_cache(self, cache: IRuntimeCache, /) -> bool: ...


class ICudaEngine(Protocol):
    num_io_tensors: int

    def get_tensor_name(self, index: int, /) -> str: ...
    def get_tensor_mode(self, tensor: str, /) -> Any: ...
    def get_tensor_dtype(self, tensor: str, /) -> Any: ...
    def get_tensor_shape(self, tensor: str, /) -> Sequence[int]: ...
    def get_tensor_profile_shape(self, tensor: str, profile: int, /) -> list[Sequence[int]]: ...
    def create_execution_context(self, config: Any = ..., /) -> IExecutionContext | None: ...
    def create_runtime_config(self) -> IRuntimeConfig: ...  # for RTX only
    def create_engine_inspector(self) -> EngineInspector: ...


class Runtime(Protocol):
    def deserialize_cuda_engine(self, plan: bytes, /) -> ICudaEngine | None: ...


class BuilderFlag(Protocol):
    FP16: Any  # until 10.16 only
    TF32: Any


class DataType(Protocol):
    FLOAT: Any
    HALF: Any
    UINT8: Any


class Severity(Protocol):  # ILogger.Severity
    ERROR: Any
    INTERNAL_ERROR: Any


class ComputeCapability(Protocol):  # for RTX only
    SM75: Any
    SM80: Any
    SM86: Any
    SM89: Any
    SM120: Any
    SM121: Any


class CudaGraphStrategy(Protocol):  # for RTX only
    WHOLE_GRAPH_CAPTURE: Any


class DynamicShapesKernelSpecializationStrategy(Protocol):  # for RTX only
    EAGER: Any
    LAZY: Any


class LayerInformationFormat(Protocol):
    JSON: Any


class MemoryPoolType(Protocol):
    WORKSPACE: Any


class NetworkDefinitionCreationFlag(Protocol):
    STRONGLY_TYPED: Any


class ProfilingVerbosity(Protocol):
    DETAILED: Any


class TensorIOMode(Protocol):
    INPUT: Any
    OUTPUT: Any


class TensorRT(Protocol):
    """The module."""

    __version__: str
    BuilderFlag: BuilderFlag
    ComputeCapability: ComputeCapability
    CudaGraphStrategy: CudaGraphStrategy
    DataType: DataType
    DynamicShapesKernelSpecializationStrategy: DynamicShapesKernelSpecializationStrategy
    ILogger: Any  # to be subclassed, as the next two
    IProfiler: Any
    IProgressMonitor: Any
    LayerInformationFormat: LayerInformationFormat
    MemoryPoolType: MemoryPoolType
    NetworkDefinitionCreationFlag: NetworkDefinitionCreationFlag
    ProfilingVerbosity: ProfilingVerbosity
    TensorIOMode: TensorIOMode

    def Builder(self, logger: Any, /) -> Builder: ...  # noqa: N802  # TensorRT's name, as the next two
    def OnnxParser(self, network: INetworkDefinition, logger: Any, /) -> OnnxParser: ...  # noqa: N802
    def Runtime(self, logger: Any, /) -> Runtime: ...  # noqa: N802
