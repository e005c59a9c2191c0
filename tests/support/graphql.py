"""The queries that MLflow's UI sends, by what their answers hold."""

from typing import Any

import httpx

__all__ = ["EXPERIMENT", "FILES", "HISTORY", "RUN", "SEARCH", "ask"]

_RUN = """
    __typename
    info { runId runUuid runName status experimentId artifactUri endTime lifecycleStage startTime userId }
    experiment { experimentId name tags { key value } artifactLocation lifecycleStage lastUpdateTime }
    modelVersions { status version name source creationTimestamp }
    data {
      metrics { __typename key value step timestamp datasetName datasetDigest modelId runId }
      params { key value }
      tags { key value }
    }
    inputs {
      datasetInputs { dataset { digest name profile schema source sourceType } tags { key value } }
      modelInputs { modelId }
    }
    outputs { __typename modelOutputs { modelId step } }
"""
EXPERIMENT = """
query MlflowGetExperimentQuery($data: MlflowGetExperimentInput!) @component(name: "tracking") {
  mlflowGetExperiment(input: $data) {
    apiError { code message }
    experiment {
      artifactLocation creationTime effectiveTraceArchivalRetention experimentId lastUpdateTime lifecycleStage name
      workspace tags { __typename key value }
    }
  }
}"""
RUN = f"""
query GetRun($data: MlflowGetRunInput!) {{
  mlflowGetRun(input: $data) {{ apiError {{ helpUrl code message }} run {{ {_RUN} }} }}
}}"""
SEARCH = f"""
query SearchRuns($data: MlflowSearchRunsInput!) {{
  mlflowSearchRuns(input: $data) {{ apiError {{ helpUrl code message }} runs {{ {_RUN} }} }}
}}"""
HISTORY = """
query GetMetricHistoryBulkInterval($data: MlflowGetMetricHistoryBulkIntervalInput!) {
  mlflowGetMetricHistoryBulkInterval(input: $data) {
    __typename
    metrics { timestamp step runId key value }
    apiError { code message }
  }
}"""
FILES = """
query Files($data: MlflowListArtifactsInput!) {
  mlflowListArtifacts(input: $data) { rootUri nextPageToken files { path isDir fileSize } }
}"""


def ask(client: httpx.Client, query: str, data: Any = None, **body: Any) -> Any:
    """What a query is answered, that gets ``data`` as its one variable."""
    variables = {} if data is None else {"variables": {"data": data}}
    answer = client.post("/graphql", json={"query": query, **variables, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()
