"""The steps of a run as jobs on a cluster.

plan      a sealed plan: configuration, source, and the jobs with the fingerprints that they must make
source    the copy of the program that the jobs of a plan run
bundles   cases of preprocessing in tasks of a minute or more
seal      from what a run would do to a sealed plan
lease     who may write the output of a job: a fencing token, work in progress, the commit
job       what runs inside a job: `python -m slicewise.cluster.job`
script    the batch script of a group of jobs
slurm     sbatch, squeue, scancel
submit    submits what is missing, and cancels
drive     starts the jobs one after the other on workers that stay
on_ray    these workers as tasks of Ray
ray_workers   Ray, the resources of a job, and functions that run on its workers
ray_training  the processes of a stage as tasks of Ray
progress  what is done, by receipts, and what waits or runs, by the queue
"""
