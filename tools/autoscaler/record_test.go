// Records what Kubernetes' own HorizontalPodAutoscaler controller decides, look by look, for services whose load is
// drawn at random. tools/autoscaler/record puts this file into the controller's package, where it can call what isn't
// exported; testing/synctest gives the controller a clock that this file moves.
package podautoscaler

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"testing"
	"testing/synctest"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	autoscalingclient "k8s.io/client-go/kubernetes/typed/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	defaults "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/monitor"
	consistencyutil "k8s.io/kubernetes/pkg/controller/util/consistency"
	"k8s.io/kubernetes/pkg/controller/util/selectors"
)

const namespace, name, metric = "default", "web", "gpuyard_service_requests_in_flight"

// Pod is one of the target's: without a value its metric isn't known.
type Pod struct {
	Name     string
	Phase    string
	Deleting bool
	Milli    *int64
}

// MarshalJSON writes it in one short line: what it is (running, pending, leaving) and its value.
func (p Pod) MarshalJSON() ([]byte, error) {
	state := p.Phase[:1]
	if p.Deleting {
		state = "L"
	}
	return json.Marshal([]any{p.Name, state, p.Milli})
}

// Look is what the controller saw, and what it made of it.
type Look struct {
	AtS        float64     `json:"at_s"`
	Current    int32       `json:"current"`
	Pods       []Pod       `json:"pods"`
	Replicas   int32       `json:"replicas"`
	Reason     string      `json:"reason,omitempty"`
	Conditions [][3]string `json:"conditions"`
}

// Recording is one autoscaler and all looks at it.
type Recording struct {
	Spec  autoscalingv2.HorizontalPodAutoscalerSpec `json:"spec"`
	Looks []Look                                    `json:"looks"`
}

// scales keeps the one Scale that there is.
type scales struct {
	scale.ScaleInterface
	replicas, exist int32
}

func (s *scales) Scales(string) scale.ScaleInterface { return s }

func (s *scales) Get(context.Context, schema.GroupResource, string, metav1.GetOptions) (*autoscalingv1.Scale, error) {
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       autoscalingv1.ScaleSpec{Replicas: s.replicas},
		Status:     autoscalingv1.ScaleStatus{Replicas: s.exist, Selector: "app=web"},
	}, nil
}

func (s *scales) Update(_ context.Context, _ schema.GroupResource, wanted *autoscalingv1.Scale, _ metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	s.replicas = wanted.Spec.Replicas
	return wanted, nil
}

// statuses keeps the status that the controller wrote last.
type statuses struct {
	autoscalingclient.HorizontalPodAutoscalerInterface
	last *autoscalingv2.HorizontalPodAutoscaler
}

func (s *statuses) HorizontalPodAutoscalers(string) autoscalingclient.HorizontalPodAutoscalerInterface {
	return s
}

func (s *statuses) UpdateStatus(_ context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, _ metav1.UpdateOptions) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	s.last = hpa.DeepCopy()
	return hpa, nil
}

// measured answers with the values of the pods of this look.
type measured struct {
	metrics.MetricsClient
	pods []Pod
}

func (m *measured) GetRawMetric(string, string, labels.Selector, labels.Selector) (metrics.PodMetricsInfo, time.Time, error) {
	found := metrics.PodMetricsInfo{}
	for _, pod := range m.pods {
		if pod.Milli != nil {
			found[pod.Name] = metrics.PodMetric{Timestamp: time.Now(), Value: *pod.Milli}
		}
	}
	if len(found) == 0 {
		return nil, time.Time{}, fmt.Errorf("no metrics returned from custom metrics API")
	}
	return found, time.Now(), nil
}

// service is the target: its pods start slowly, and share a load that changes.
type service struct {
	rng     *rand.Rand
	startS  float64
	total   int64
	unknown float64
	leaving float64
	started map[string]float64
	pods    []string
	made    int
}

// follow makes and removes pods as a Deployment would.
func (s *service) follow(replicas int32, nowS float64) {
	for int32(len(s.pods)) < replicas {
		s.made++
		one := fmt.Sprintf("web-%d", s.made)
		s.pods, s.started[one] = append(s.pods, one), nowS
	}
	s.pods = s.pods[:replicas]
}

// look is what can be seen of the pods now.
func (s *service) look(nowS float64) []Pod {
	if s.rng.Float64() < 0.2 {
		s.total = s.rng.Int63n(60_000)
	}
	found, running := []Pod{}, int64(0)
	for _, one := range s.pods {
		pod := Pod{Name: one, Phase: "Running"}
		if nowS-s.started[one] < s.startS {
			pod.Phase = "Pending"
		} else {
			running++
		}
		found = append(found, pod)
	}
	for i := range found {
		if found[i].Phase == "Running" && s.rng.Float64() >= s.unknown {
			each := s.total / running
			found[i].Milli = &each
		}
	}
	if s.rng.Float64() < s.leaving {
		each := s.rng.Int63n(60_000)
		found = append(found, Pod{Name: "web-0", Phase: "Running", Deleting: true, Milli: &each})
	}
	return found
}

func listed(pods []Pod) corelisters.PodLister {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, pod := range pods {
		one := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: namespace, Labels: map[string]string{"app": "web"}}}
		one.Status.Phase = v1.PodPhase(pod.Phase)
		if pod.Deleting {
			one.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		}
		_ = indexer.Add(one)
	}
	return corelisters.NewPodLister(indexer)
}

func rules(rng *rand.Rand) *autoscalingv2.HPAScalingRules {
	found := &autoscalingv2.HPAScalingRules{}
	if rng.Intn(2) == 0 {
		window := int32(rng.Intn(5) * 30)
		found.StabilizationWindowSeconds = &window
	}
	if rng.Intn(2) == 0 {
		selected := []autoscalingv2.ScalingPolicySelect{autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect}[rng.Intn(3)]
		found.SelectPolicy = &selected
	}
	for range rng.Intn(3) {
		kind := []autoscalingv2.HPAScalingPolicyType{autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy}[rng.Intn(2)]
		value := int32(1 + rng.Intn(4))
		if kind == autoscalingv2.PercentScalingPolicy {
			value *= 25
		}
		found.Policies = append(found.Policies, autoscalingv2.HPAScalingPolicy{Type: kind, Value: value, PeriodSeconds: int32(15 * (1 + rng.Intn(8)))})
	}
	if rng.Intn(3) == 0 {
		found.Tolerance = resource.NewMilliQuantity(int64(rng.Intn(400)), resource.DecimalSI)
	}
	return found
}

func autoscaler(rng *rand.Rand) *autoscalingv2.HorizontalPodAutoscaler {
	least := int32(1 + rng.Intn(3))
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	hpa.Spec = autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name},
		MinReplicas:    &least,
		MaxReplicas:    least + int32(rng.Intn(15)),
		Metrics: []autoscalingv2.MetricSpec{{
			Type: autoscalingv2.PodsMetricSourceType,
			Pods: &autoscalingv2.PodsMetricSource{
				Metric: autoscalingv2.MetricIdentifier{Name: metric},
				Target: autoscalingv2.MetricTarget{
					Type:         autoscalingv2.AverageValueMetricType,
					AverageValue: resource.NewMilliQuantity(500+rng.Int63n(10_000), resource.DecimalSI),
				},
			},
		}},
	}
	if rng.Intn(3) > 0 {
		hpa.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(rng), ScaleDown: rules(rng)}
	}
	defaults.SetDefaults_HorizontalPodAutoscaler(hpa)
	return hpa
}

func recorded(t *testing.T, seed int64, looks int) Recording {
	rng := rand.New(rand.NewSource(seed))
	hpa := autoscaler(rng)
	result := Recording{Spec: *hpa.Spec.DeepCopy()}
	target := &scales{replicas: int32(rng.Intn(int(hpa.Spec.MaxReplicas)+2)) + 1}
	served := &service{rng: rng, startS: float64(rng.Intn(4) * 20), total: rng.Int63n(60_000), started: map[string]float64{}}
	if rng.Intn(3) == 0 {
		served.unknown = 0.3
	}
	if rng.Intn(3) == 0 {
		served.leaving = 0.2
	}
	written, values := &statuses{last: hpa}, &measured{}
	events := record.NewFakeRecorder(16)
	mapper := apimeta.NewDefaultRESTMapper([]schema.GroupVersion{{Group: "apps", Version: "v1"}})
	mapper.Add(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, apimeta.RESTScopeNamespace)
	controller := &HorizontalController{
		scaleNamespacer: target, hpaNamespacer: written, mapper: mapper, tolerance: 0.1, eventRecorder: events,
		downscaleStabilisationWindow: 5 * time.Minute, monitor: monitor.New(),
		recommendations: map[string][]timestampedRecommendation{},
		scaleUpEvents:   map[string][]timestampedScaleEvent{},
		scaleDownEvents: map[string][]timestampedScaleEvent{},
		selectorTracker: newHPASelectorStore(), consistencyStore: consistencyutil.NewNoopConsistencyStore(),
	}
	key := namespace + "/" + name
	parsed := selectors.Parse(key)
	controller.selectorTracker.PutIfAbsent(parsed.Namespace, parsed, labels.Nothing())
	begun := time.Now()
	for range looks {
		nowS := time.Since(begun).Seconds()
		served.follow(target.replicas, nowS)
		look := Look{AtS: nowS, Current: target.replicas, Pods: served.look(nowS)}
		values.pods, target.exist = look.Pods, int32(len(served.pods))
		lister := listed(look.Pods)
		controller.podLister = lister
		controller.replicaCalc = NewReplicaCalculator(values, lister, 5*time.Minute, 30*time.Second)
		_ = controller.reconcileAutoscaler(context.Background(), written.last, key)
		look.Replicas = target.replicas
		for len(events.Events) > 0 {
			var size int32
			if event := <-events.Events; target.replicas != look.Current {
				if _, err := fmt.Sscanf(event, "Normal SuccessfulRescale New size: %d; reason: ", &size); err == nil {
					look.Reason = event[len(fmt.Sprintf("Normal SuccessfulRescale New size: %d; reason: ", size)):]
				}
			}
		}
		for _, one := range written.last.Status.Conditions {
			look.Conditions = append(look.Conditions, [3]string{string(one.Type), string(one.Status), one.Reason})
		}
		result.Looks = append(result.Looks, look)
		time.Sleep(time.Duration(5+5*rng.Intn(4)) * time.Second)
	}
	return result
}

// TestRecord writes to the file that RECORDED names.
func TestRecord(t *testing.T) {
	all := []Recording{}
	for seed := range int64(40) {
		synctest.Test(t, func(t *testing.T) { all = append(all, recorded(t, seed, 40)) })
	}
	file, err := os.Create(os.Getenv("RECORDED"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, _ = file.WriteString("[\n")
	for i, one := range all {
		text, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			_, _ = file.WriteString(",\n")
		}
		_, _ = file.Write(text)
	}
	_, _ = file.WriteString("\n]\n")
}
