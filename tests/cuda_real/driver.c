/* A stand-in for the driver, libcuda.so.1, on a host with no device: cuDNN's engines that are compiled at run time want
 * one to load, before they finalise a plan for a device that isn't there. cuDeviceGetCount has to answer 0, so that no
 * compiled code is sent to a device; everything else answers CUDA_ERROR_NO_DEVICE. Built as a shared library of that
 * name in a folder of its own, which LD_LIBRARY_PATH names for the tests in this folder alone. */

enum { SUCCESS = 0, NO_DEVICE = 100, VERSION = 13000 };

int cuDriverGetVersion(int *version);
int cuDeviceGetCount(int *count);

int cuDriverGetVersion(int *version)
{
    *version = VERSION;
    return SUCCESS;
}

int cuDeviceGetCount(int *count)
{
    *count = 0;
    return SUCCESS;
}

#define REFUSES(name)                                                                                                  \
    int name(void);                                                                                                    \
    int name(void)                                                                                                     \
    {                                                                                                                  \
        return NO_DEVICE;                                                                                              \
    }

REFUSES(cuInit)
REFUSES(cuDeviceGet)
REFUSES(cuGetErrorString)
REFUSES(cuGetErrorName)
REFUSES(cuCtxGetCurrent)
REFUSES(cuCtxGetLimit)
REFUSES(cuCtxPopCurrent)
REFUSES(cuCtxPushCurrent)
REFUSES(cuStreamGetCtx)
REFUSES(cuLinkCreate)
REFUSES(cuLinkAddData)
REFUSES(cuLinkComplete)
REFUSES(cuLinkDestroy)
REFUSES(cuLaunchKernel)
REFUSES(cuLaunchKernelEx)
REFUSES(cuLaunchCooperativeKernel)
REFUSES(cuLibraryLoadData)
REFUSES(cuLibraryLoadFromFile)
REFUSES(cuLibraryGetKernel)
REFUSES(cuLibraryUnload)
REFUSES(cuKernelSetAttribute)
REFUSES(cuKernelGetAttribute)
REFUSES(cuOccupancyMaxPotentialClusterSize)
