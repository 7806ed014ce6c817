{{- define "streamctl.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "streamctl.labels" -}}
{{ include "streamctl.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "streamctl.selector" -}}
app.kubernetes.io/name: streamctl
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "streamctl.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "streamctl.name" .) }}
{{- end }}

{{/* Without quotes YAML takes off for false. */}}
{{- define "streamctl.autoscaling" -}}
{{- $mode := .Values.autoscaling.mode | toString }}
{{- if eq $mode "false" }}{{ $mode = "off" }}{{ end }}
{{- if not (has $mode (list "off" "hpa" "keda")) }}
{{- fail (printf "autoscaling.mode is %q\n  hint: off, hpa or keda" $mode) }}
{{- end }}
{{- if and (eq $mode "hpa") (lt (int .Values.autoscaling.minReplicas) 1) }}
{{- fail "autoscaling.minReplicas is 0\n  hint: a HorizontalPodAutoscaler has at least 1; mode keda can do with 0" }}
{{- end }}
{{- $mode }}
{{- end }}

{{- define "streamctl.pod" -}}
serviceAccountName: {{ include "streamctl.serviceAccount" . }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "streamctl.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
livenessProbe:
  httpGet: { path: /healthz, port: http }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: http }
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "streamctl.env" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: POD_IP
  valueFrom: { fieldRef: { fieldPath: status.podIP } }
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
