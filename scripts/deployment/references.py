"""What the objects of a rendering say of each other: every name, port and label that one writes and another has."""

import base64
import re

import manifests
import tools
from tools import ROOT


# What a reader makes beside the overlay, as the example that needs it says.
BROUGHT = {"weir-authorities"}
# What of ingest is for the world: metrics and health are on the same port.
PUBLIC = {"/webhooks/", "/v1/events/"}


def environment(container, objects):
    """The environment of a container, from ConfigMaps and Secrets too."""
    env = {}

    def named(kind, name):
        return next((one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name), None)

    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            env |= (named("ConfigMap", source["configMapRef"]["name"]) or {}).get("data", {})
        else:
            secret = named("Secret", source["secretRef"]["name"]) or {}
            env |= {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
            env |= secret.get("stringData", {})
    for variable in container.get("env", []):
        env[variable["name"]] = variable.get("value", "a-name")
    return env


def check(rendering, programs):
    """All of them in one rendering; `programs` are its containers with the settings in effect."""
    objects = manifests.documents(rendering)
    examples = {secret["metadata"]["name"] for secret in manifests.documents("secrets.example.yaml")}
    found = Rendering(rendering, objects, examples, programs)
    for one in objects:
        look = getattr(found, one["kind"].lower(), None)
        if look:
            look(one)
    found.nobody_left_out()
    return [f"{rendering}: {problem}" for problem in found.problems]


def quantity(text):
    """Of CPU or bytes as Kubernetes writes them."""
    number, unit = re.fullmatch(r"(\d+)(m|Mi|Gi|)", text).groups()
    return int(number) * {"m": 0.001, "Mi": 1 << 20, "Gi": 1 << 30, "": 1}[unit]


class Rendering:
    """Looks at each kind of object for what it refers to. Methods are named for kinds."""

    def __init__(self, name, objects, examples, programs):
        self.name, self.objects, self.examples, self.problems = name, objects, examples, []
        self.workloads = [one for one in objects if one["kind"] in ("Deployment", "StatefulSet")]
        self.settings = {one.name: one.settings for one in programs}
        self.services = set(self.settings.get("worker", {}).get("WEIR_SERVICES", "").split(","))
        self.protected, self.scaled = set(), set()

    def wrong(self, one, what):
        self.problems.append(f"{manifests.title(one)}: {what}")

    def has(self, kind, name):
        return any(one["kind"] == kind and one["metadata"]["name"] == name for one in self.objects)

    def selected(self, labels):
        """Workloads whose pods have these labels."""
        return [
            one
            for one in self.workloads
            if labels.items() <= one["spec"]["template"]["metadata"].get("labels", {}).items()
        ]

    def ports(self, workload):
        containers = workload["spec"]["template"]["spec"]["containers"]
        return {port["name"]: port["containerPort"] for container in containers for port in container.get("ports", [])}

    def deployment(self, one):
        spec = one["spec"]["template"]["spec"]
        if not one["spec"]["selector"]["matchLabels"].items() <= one["spec"]["template"]["metadata"]["labels"].items():
            self.wrong(one, "does not select its own pods")
        account = spec.get("serviceAccountName")
        if account and not self.has("ServiceAccount", account):
            self.wrong(one, f"there is no ServiceAccount {account}")
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        claims = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
        for volume in volumes.values():
            config = volume.get("configMap", {}).get("name")
            if config and config not in BROUGHT and not self.has("ConfigMap", config):
                self.wrong(one, f"there is no ConfigMap {config}")
            if "secret" in volume:
                self.secret_volume(one, volume["secret"]["secretName"])
        for container in spec["containers"]:
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes.keys() | claims:
                    self.wrong(one, f"there is no volume {mount['name']}")
            for source in container.get("envFrom", []):
                config, secret = source.get("configMapRef"), source.get("secretRef")
                if config and not self.has("ConfigMap", config["name"]):
                    self.wrong(one, f"there is no ConfigMap {config['name']}")
                if secret and not self.has("Secret", secret["name"]) and secret["name"] not in self.examples:
                    self.wrong(one, f"there is no Secret {secret['name']}, and no example of it")
            mounted = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            for variable in container.get("env", []):
                path = variable.get("value", "")
                if variable["name"].endswith("_FILE") and path.rpartition("/")[0] not in mounted:
                    self.wrong(one, f"{variable['name']} is {path}, where nothing is mounted")
                if variable["name"].startswith("WEIR_SCHEDULER_TLS_") and path.rpartition("/")[2] not in (
                    "tls.crt",
                    "tls.key",
                ):
                    self.wrong(one, f"{variable['name']} is {path}: a certificate's Secret has tls.crt and tls.key")
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                for how in ("httpGet", "tcpSocket"):
                    port = container.get(probe, {}).get(how, {}).get("port")
                    if port and port not in self.ports(one):
                        self.wrong(one, f"{probe} asks the port {port}, which it does not have")
        if "replicas" in one["spec"] and one["metadata"]["name"] in self.scaled_names():
            self.wrong(one, "has replicas, which an autoscaler owns")

    statefulset = deployment

    def secret_volume(self, one, name):
        certificates = [other for other in self.objects if other["kind"] == "Certificate"]
        if not any(other["spec"]["secretName"] == name for other in certificates) and not self.has("Secret", name):
            self.wrong(one, f"nobody makes the Secret {name}")

    def scaled_names(self):
        kinds = ("HorizontalPodAutoscaler", "ScaledObject")
        return [one["spec"]["scaleTargetRef"]["name"] for one in self.objects if one["kind"] in kinds]

    def service(self, one):
        selected = self.selected(one["spec"]["selector"])
        if len(selected) != 1:
            self.wrong(one, f"selects {[other['metadata']['name'] for other in selected]}")
        for port in one["spec"]["ports"]:
            if selected and port["targetPort"] not in self.ports(selected[0]):
                self.wrong(
                    one, f"leads to the port {port['targetPort']}, which {manifests.title(selected[0])} does not have"
                )

    def poddisruptionbudget(self, one):
        selected = self.selected(one["spec"]["selector"]["matchLabels"])
        self.protected |= {other["metadata"]["name"] for other in selected}
        if len(selected) != 1:
            self.wrong(one, "does not select one Deployment")

    def networkpolicy(self, one):
        selected = self.selected(one["spec"]["podSelector"].get("matchLabels", {}))
        if not selected:
            self.wrong(one, "selects no pod")
        for rule in one["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                for workload in selected:
                    if isinstance(port["port"], str) and port["port"] not in self.ports(workload):
                        self.wrong(
                            one, f"opens the port {port['port']}, which {manifests.title(workload)} does not have"
                        )

    def horizontalpodautoscaler(self, one):
        target = one["spec"]["scaleTargetRef"]
        if not self.has(target["kind"], target["name"]):
            self.wrong(one, f"there is no {target['kind']} {target['name']}")
        self.one_autoscaler(one)
        metrics = [metric["external"]["metric"] for metric in one["spec"]["metrics"] if metric["type"] == "External"]
        if not metrics:
            return
        if not self.has("APIService", "v1beta1.external.metrics.k8s.io"):
            self.wrong(one, "asks for external metrics, which nobody serves")
        figures = (ROOT / "scheduler/src/figures.rs").read_text()
        for metric in metrics:
            if f'"{metric["name"]}"' not in figures:
                self.wrong(one, f"the scheduler has no figure {metric['name']}")
        self.one_for_each(one, [metric["selector"]["matchLabels"]["service"] for metric in metrics])

    def one_autoscaler(self, one):
        name = one["spec"]["scaleTargetRef"]["name"]
        if name in self.scaled:
            self.wrong(one, f"{name} is scaled by somebody else too")
        self.scaled.add(name)

    def one_for_each(self, one, named):
        if sorted(named) != sorted(self.services):
            self.wrong(one, f"scales by {sorted(named)}, WEIR_SERVICES are {sorted(self.services)}")

    def scaledobject(self, one):
        if not self.has("Deployment", one["spec"]["scaleTargetRef"]["name"]):
            self.wrong(one, "scales nothing")
        self.one_autoscaler(one)
        self.one_for_each(one, [trigger["metadata"]["service"] for trigger in one["spec"]["triggers"]])
        for trigger in one["spec"]["triggers"]:
            service, namespace, _, port = re.fullmatch(
                r"([\w-]+)\.([\w-]+)\.(svc):(\d+)", trigger["metadata"]["scalerAddress"]
            ).groups()
            there = [
                other for other in self.objects if other["kind"] == "Service" and other["metadata"]["name"] == service
            ]
            if not there or there[0]["metadata"]["namespace"] != namespace:
                self.wrong(one, f"there is no Service {namespace}/{service}")
            # A headless Service translates no port: it is the pod's.
            elif int(port) not in self.ports(self.selected(there[0]["spec"]["selector"])[0]).values():
                self.wrong(one, f"nothing listens on {port}")

    def apiservice(self, one):
        service = one["spec"]["service"]
        there = [
            other
            for other in self.objects
            if other["kind"] == "Service" and other["metadata"]["name"] == service["name"]
        ]
        if not there or there[0]["metadata"]["namespace"] != service["namespace"]:
            self.wrong(one, f"there is no Service {service}")
        elif service["port"] not in [port["port"] for port in there[0]["spec"]["ports"]]:
            self.wrong(one, f"the Service has no port {service['port']}")
        namespace, _, name = one["metadata"]["annotations"]["cert-manager.io/inject-ca-from"].partition("/")
        certificate = [
            other for other in self.objects if other["kind"] == "Certificate" and other["metadata"]["name"] == name
        ]
        if not certificate or certificate[0]["metadata"]["namespace"] != namespace:
            self.wrong(one, f"there is no Certificate {namespace}/{name}")
        elif f"{service['name']}.{service['namespace']}.svc" not in certificate[0]["spec"]["dnsNames"]:
            self.wrong(one, f"the certificate is not for {service['name']}.{service['namespace']}.svc")

    def ingress(self, one):
        paths = [path for rule in one["spec"]["rules"] for path in rule["http"]["paths"]]
        self.public(one, {path["path"] for path in paths if path["pathType"] == "Prefix"})
        for path in paths:
            self.backend(one, path["backend"]["service"]["name"], path["backend"]["service"]["port"]["name"], "name")
        size = one["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
        if size.rstrip("m") != str(int(self.settings["ingest"].get("WEIR_INGEST_MAX_BODY", 0)) >> 20):
            self.wrong(one, f"lets bodies of {size} through, which is not WEIR_INGEST_MAX_BODY")

    def httproute(self, one):
        for rule in one["spec"]["rules"]:
            matches = [match["path"] for match in rule["matches"]]
            self.public(one, {match["value"] for match in matches if match["type"] == "PathPrefix"})
            for backend in rule["backendRefs"]:
                self.backend(one, backend["name"], backend["port"], "port")

    def public(self, one, paths):
        if paths != PUBLIC:
            self.wrong(one, f"leads {sorted(paths)} to ingest and not {sorted(PUBLIC)}")

    def backend(self, one, name, port, key):
        there = [other for other in self.objects if other["kind"] == "Service" and other["metadata"]["name"] == name]
        if not there or port not in [known[key] for known in there[0]["spec"]["ports"]]:
            self.wrong(one, f"there is no Service {name} with the port {port}")

    def certificate(self, one):
        if not self.has("Issuer", one["spec"]["issuerRef"]["name"]):
            self.wrong(one, f"there is no Issuer {one['spec']['issuerRef']['name']}")

    def clusterrolebinding(self, one):
        if not self.has(one["roleRef"]["kind"], one["roleRef"]["name"]):
            self.wrong(one, f"there is no {one['roleRef']['kind']} {one['roleRef']['name']}")
        for subject in one["subjects"]:
            if not self.has(subject["kind"], subject["name"]) or subject["namespace"] == "NAMESPACE":
                self.wrong(one, f"there is no {subject}")

    def verticalpodautoscaler(self, one):
        target = [other for other in self.workloads if other["metadata"]["name"] == one["spec"]["targetRef"]["name"]]
        names = [part["containerName"] for part in one["spec"]["resourcePolicy"]["containerPolicies"]]
        if not target or names != [part["name"] for part in target[0]["spec"]["template"]["spec"]["containers"]]:
            self.wrong(one, "is for no container that there is")
        for part in one["spec"]["resourcePolicy"]["containerPolicies"] if target else []:
            containers = target[0]["spec"]["template"]["spec"]["containers"]
            asked = next(other["resources"]["requests"] for other in containers if other["name"] == part["containerName"])
            for what, least in part["minAllowed"].items():
                if quantity(least) >= quantity(asked[what]):
                    self.wrong(one, f"can recommend no less {what} than the {asked[what]} that are requested")
        if one["spec"]["updatePolicy"]["updateMode"] != "Off":
            self.wrong(one, "does more than recommend")

    def podmonitor(self, one):
        for workload in self.selected(one["spec"]["selector"]["matchLabels"]):
            for endpoint in one["spec"]["podMetricsEndpoints"]:
                if endpoint["port"] not in self.ports(workload):
                    self.wrong(one, f"asks a port that {manifests.title(workload)} does not have")

    def nobody_left_out(self):
        namespaces = {one["metadata"].get("namespace") for one in self.objects if "namespace" in one["metadata"]}
        if len(namespaces) != 1 or not self.has("Namespace", *namespaces):
            self.problems.append(f"objects in the namespaces {sorted(map(str, namespaces))}")
        cluster = ("Namespace", "ClusterRole", "ClusterRoleBinding", "APIService")
        for one in self.objects:
            if one["kind"] not in cluster and "namespace" not in one["metadata"]:
                self.wrong(one, "has no namespace")
        for workload in self.workloads:
            name = workload["metadata"]["name"]
            if name.startswith("weir-") and name not in self.protected:
                self.wrong(workload, "has no PodDisruptionBudget")
        if "NAMESPACE" in tools.yaml().dump(self.objects):
            self.problems.append("the namespace is not filled in everywhere")
        if self.settings.get("worker") is None:
            self.problems.append("has no worker")
