use quintet_proto::inference::{
    CudaSharedMemoryRegisterRequest, CudaSharedMemoryRegisterResponse, CudaSharedMemoryStatusRequest, CudaSharedMemoryStatusResponse,
    CudaSharedMemoryUnregisterRequest, CudaSharedMemoryUnregisterResponse, SystemSharedMemoryRegisterRequest, SystemSharedMemoryRegisterResponse,
    SystemSharedMemoryStatusRequest, SystemSharedMemoryStatusResponse, SystemSharedMemoryUnregisterRequest, SystemSharedMemoryUnregisterResponse,
    cuda_shared_memory_status_response, system_shared_memory_status_response,
};
use tokio_util::task::TaskTracker;

use crate::{
    Error,
    memory::{Kind, Place, Regions},
};

/// The memory that clients share with this process. What may wait for the machine runs on threads that may. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sharing {
    regions: Regions,
    tasks: TaskTracker,
}

impl Sharing {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { regions: Regions::default(), tasks }
    }

    /// Does some work with the regions: at once where it does not touch one, else on a thread that may wait.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        touches: bool,
        work: impl FnOnce(&Regions) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if !touches {
            return work(&self.regions);
        }
        let regions = self.regions.clone();
        self.tasks.spawn_blocking(move || work(&regions)).await.unwrap_or(Err(Error::Ended))
    }

    /// Whether a client can register a GPU's memory here.
    pub(super) async fn takes_cuda(&self) -> bool {
        self.with(true, |regions| Ok(regions.take_cuda())).await.unwrap_or(false)
    }

    pub(super) async fn register_system(&self, request: SystemSharedMemoryRegisterRequest) -> Result<SystemSharedMemoryRegisterResponse, Error> {
        let SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = request;
        self.with(true, move |regions| regions.register_system(&name, &key, offset, byte_size)).await?;
        Ok(SystemSharedMemoryRegisterResponse {})
    }

    pub(super) async fn unregister_system(
        &self,
        request: SystemSharedMemoryUnregisterRequest,
    ) -> Result<SystemSharedMemoryUnregisterResponse, Error> {
        self.unregister(Kind::System, request.name).await?;
        Ok(SystemSharedMemoryUnregisterResponse {})
    }

    pub(super) fn system_status(&self, request: &SystemSharedMemoryStatusRequest) -> Result<SystemSharedMemoryStatusResponse, Error> {
        let listed = self.regions.status(Kind::System, &request.name)?.into_iter();
        let regions = listed.filter_map(|(name, listed)| {
            let Place::System { key, offset } = listed.place else { return None };
            Some((name.clone(), system_shared_memory_status_response::RegionStatus { name, key, offset, byte_size: listed.size }))
        });
        Ok(SystemSharedMemoryStatusResponse { regions: regions.collect() })
    }

    pub(super) async fn register_cuda(&self, request: CudaSharedMemoryRegisterRequest) -> Result<CudaSharedMemoryRegisterResponse, Error> {
        let CudaSharedMemoryRegisterRequest { name, raw_handle, device_id, byte_size } = request;
        self.with(true, move |regions| regions.register_cuda(&name, &raw_handle, device_id, byte_size)).await?;
        Ok(CudaSharedMemoryRegisterResponse {})
    }

    pub(super) async fn unregister_cuda(&self, request: CudaSharedMemoryUnregisterRequest) -> Result<CudaSharedMemoryUnregisterResponse, Error> {
        self.unregister(Kind::Cuda, request.name).await?;
        Ok(CudaSharedMemoryUnregisterResponse {})
    }

    pub(super) fn cuda_status(&self, request: &CudaSharedMemoryStatusRequest) -> Result<CudaSharedMemoryStatusResponse, Error> {
        let listed = self.regions.status(Kind::Cuda, &request.name)?.into_iter();
        let regions = listed.filter_map(|(name, listed)| {
            let Place::Cuda { gpu } = listed.place else { return None };
            let device_id = u64::from(gpu);
            Some((name.clone(), cuda_shared_memory_status_response::RegionStatus { name, device_id, byte_size: listed.size }))
        });
        Ok(CudaSharedMemoryStatusResponse { regions: regions.collect() })
    }

    async fn unregister(&self, kind: Kind, name: String) -> Result<(), Error> {
        let unregister = move |regions: &Regions| {
            regions.unregister(kind, &name);
            Ok(())
        };
        self.with(true, unregister).await
    }
}
