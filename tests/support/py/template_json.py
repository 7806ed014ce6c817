"""A CloudFormation template as JSON, its short forms (!Ref, !Sub) written out.   template_json.py FILE

Runs in the environment `deploy`, which knows the short forms.
"""
import json, sys

from cfnlint.decode import cfn_yaml

json.dump(cfn_yaml.load(sys.argv[1]), sys.stdout, ensure_ascii=False)
