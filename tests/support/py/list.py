"""Prints the names of all files below a folder: list.py s3://bucket/prefix/"""
import sys

import aws

aws.answer({"names": sorted(aws.fetch(sys.argv[1]))})
