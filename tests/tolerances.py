"""The one table of numerical tolerances; they are never loosened to make a test pass."""

TOL = {
    "exact": 0.0,  # bit-equal
    "unit": 1e-5,  # single layers and blocks, float32, matmul precision "highest"
    "last_bit": 2.0**-24,  # half a unit in the last place of float32, relative
    "model": 1e-4,  # whole models, float32
    "chunk": 1e-5,  # chunked against whole encode and decode
    "gradient_rel": 1e-3,  # L2 norm of parameter gradients, relative
    "schedule_rel": 3e-6,  # float64 tables against the reference's float32 ones
    "sampler_rel": 1e-4,  # sampler states, relative to the largest value of the step
    "psnr_db": 1e-3,  # float32 against float64, in dB
    "ssim": 2e-6,  # float32 against float64
    "lpips": 1e-6,  # distances of about 0.1 to 1, float32
    "lpips_rel": 2e-4,  # the reference enlarges and sums its maps in another order
    "i3d": 5e-5,  # activations of I3D of order 1, float32, 22 layers deep
    "i3d_rel": 2e-4,
    "parity_rel": 2e-5,  # full-width networks beside PyTorch, relative to the largest output
    "resize": 5e-6,  # resampled pixels in [-1, 1]
    "frechet_rel": 1e-6,  # float64 throughout, other factorisations
    "frechet_routes_rel": 1e-3,  # float32 or non-symmetric routes of other evaluations
    "statistics_rel": 1e-9,  # agreement of readers, float64 throughout
    "devices": 1e-5,  # the same loss on 1 and on 8 devices
}
