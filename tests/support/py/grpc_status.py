"""Asks for a job's status with a gRPC client that knows nothing of streamctl.   grpc_status.py HOST:PORT JOB

Messages come from the server's own reflection service. Prints {"health": text, "services": [...], "status": JobStatus}.
"""
import sys

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import aws


def main(address, job):
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        method = pool.FindServiceByName("streamctl.v1.Jobs").FindMethodByName("GetJob")
        question, reply = (message_factory.GetMessageClass(d) for d in (method.input_type, method.output_type))
        call = channel.unary_unary("/streamctl.v1.Jobs/GetJob", question.SerializeToString, reply.FromString)
        status = call(question(job=job), timeout=5)
        aws.answer({
            "health": health_pb2.HealthCheckResponse.ServingStatus.Name(health.status),
            "services": sorted(database.get_services()),
            "status": json_format.MessageToDict(status, preserving_proto_field_name=True),
        })


main(*sys.argv[1:])
